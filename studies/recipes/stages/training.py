"""Networks trained further under their quantizers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

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
            threads=get_threads(), checkpoint=self._place(preparation),
            progress=lambda done, total: report("training", done, total),
        )  # fmt: skip
        assert trained is not None
        log = trained.log
        made = replace(
            preparation, model=trained.model,
            ranges=trained.ranges(preparation.task.sampler) if trained.learned else None,
        )  # fmt: skip
        return made.noting(
            self.name, preset=self.settings.preset, losses=_curve(log.losses), chosen_step=log.chosen_step,
            judgements=[list(one) for one in log.judgements], diverged=log.diverged,
        )  # fmt: skip

    def _place(self, preparation: Preparation) -> Path | None:
        """A control knows no scheme, so that one training serves every width."""
        scheme = {} if isinstance(self.method, Control) else {"scheme": preparation.scheme.config()}
        return preparation.place(self.name, {**self.config(), **scheme})


CURVE_STEPS = 20


def _curve(losses: np.ndarray) -> list[float]:
    """The loss curve: means of ``CURVE_STEPS`` steps each, 6 digits; the last of what is left."""
    parts = (losses[at : at + CURVE_STEPS] for at in range(0, len(losses), CURVE_STEPS))
    return [float(f"{part.mean():.6g}") for part in parts]
