"""A correction fitted on runs of the quantized network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from noise_models.correction.fitting import MIN_BLOCKS
from samplers.errors import BadInput
from simulator.calibration.trajectory import PURPOSE
from simulator.paired import ACCUMULATED, INJECTED, Arm, run_arms
from studies.corrections.comparison import FITS, require_names
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Report
from studies.recipes.task import Task


@dataclass(frozen=True)
class FitCorrection:
    """One of ``qnoise correct``'s corrections.

    Args:
        correction: its name.
        samples: of the stream "calibrate", on which it is fitted.

    Raises:
        BadInput: an unknown name, or too few samples.
    """

    correction: str
    samples: int = 1024
    name = "correction"

    def __post_init__(self) -> None:
        if self.correction not in FITS:
            raise BadInput(
                f"correction must be one of {', '.join(FITS)}", got=repr(self.correction), fix="choose one of them"
            )
        if self.samples < MIN_BLOCKS:
            raise BadInput(f"a fit needs at least {MIN_BLOCKS} samples", got=self.samples, fix="use 1024")

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        return {"correction": self.correction, "samples": self.samples}

    def require(self, task: Task) -> None:
        """A sampler that the correction has a formula for.

        Raises:
            BadInput: absorption under a sampler that clips, for instance.
        """
        require_names([self.correction], task.sampler)

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """The correction of the network as it is now."""
        task = preparation.task
        kinds = (INJECTED, ACCUMULATED) if self.correction.startswith("tac") else (INJECTED,)
        derived = preparation.model is not task.model
        (run,) = run_arms(
            [Arm(preparation.quantized())], task.sampler, samples=self.samples, seed=preparation.seed, purpose=PURPOSE,
            batch_size=task.batch_size, kinds=kinds, sites=False, reference=task.model if derived else None,
            progress=lambda done, total: report("fitting the correction", done, total),
        )  # fmt: skip
        return replace(preparation, correction=FITS[self.correction](run))
