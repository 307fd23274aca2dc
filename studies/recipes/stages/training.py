"""Networks trained further under their quantizers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from simulator.calibration.training.data import training_set
from simulator.calibration.training.methods import Control, Method
from simulator.calibration.training.settings import FULL, QUICK, FineTuning
from simulator.calibration.training.train import fine_tune
from simulator.threads import get_threads
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Report
from studies.recipes.task import Task


@dataclass(frozen=True)
class FineTune:
    """Quantization-aware training; a control trains on in full precision and leaves ranges to the stage after it.

    Args:
        method: the quantizers that are learned.
        settings: how long and how fast, the same for all methods that are compared.
    """

    method: Method | Control
    settings: FineTuning = FULL
    name = "training"

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        return {**self.method.config(), "settings": self.settings.config()}

    def quick(self) -> FineTune:
        """The same with few steps."""
        return replace(self, settings=QUICK)

    def require(self, task: Task) -> None:
        """Training data.

        Raises:
            BadInput: there is none for this model.
        """
        training_set(task.model)

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """The trained network, with its ranges if the method learned any."""
        trained = fine_tune(
            preparation.model, preparation.scheme, self.method, self.settings, seed=preparation.seed,
            threads=get_threads(), progress=lambda done, total: report("training", done, total),
        )  # fmt: skip
        assert trained is not None
        log = trained.log
        made = replace(
            preparation, model=trained.model,
            ranges=trained.ranges(preparation.task.sampler) if trained.learned else None,
        )  # fmt: skip
        return made.noting(
            self.name, preset=self.settings.preset, judgements=[list(one) for one in log.judgements],
            chosen_step=log.chosen_step, diverged=log.diverged,
        )  # fmt: skip
