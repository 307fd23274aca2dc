"""What a recipe has prepared so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from samplers.errors import BadInput
from simulator.calibration.ranges import Ranges
from simulator.correction import Correction, NoCorrection
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.models.registry import Model
from simulator.provenance import model_config, run_key
from studies.recipes.task import Task


@dataclass(frozen=True)
class Preparation:
    """A network under way from full precision to integers; every stage of a recipe makes a new one.

    Attributes:
        task: what is to be quantized.
        seed: of everything that is drawn.
        model: the network so far, derived from the task's.
        scheme: what each of its sites gets.
        ranges: bounds of its operands, None before calibration.
        correction: of its output and of the sampler's updates.
        log: what stages have to say, by their names.
        folder: keeps what stages of many minutes have done, so that they go on where they were stopped; None keeps
            nothing.
    """

    task: Task
    seed: int
    model: Model
    scheme: Scheme
    ranges: Ranges | None = None
    correction: Correction = field(default_factory=NoCorrection)
    log: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @classmethod
    def of(cls, task: Task, seed: int, folder: Path | None = None) -> Preparation:
        """Nothing done yet: the task's model, and the plain scheme of its bits."""
        return cls(task, seed, task.model, Scheme.parse(str(task.bits)), folder=folder)

    def place(self, stage: str, config: Mapping[str, Any]) -> Path | None:
        """Where a stage keeps its unfinished work, apart from all that differs.

        Args:
            stage: its name.
            config: what determines its result besides the network so far and the seed, as plain JSON values.
        """
        if self.folder is None:
            return None
        key = run_key({**config, **model_config(self.model), "seed": self.seed})
        return self.folder / f"{stage}-{key[:16]}"

    def noting(self, stage: str, **facts: Any) -> Preparation:
        """The same, with something said of a stage, as plain JSON values."""
        return replace(self, log={**self.log, stage: {**self.log.get(stage, {}), **facts}})

    def quantized(self) -> QuantizedModel:
        """The network in integers.

        Raises:
            BadInput: no stage has made ranges.
        """
        if self.ranges is None:
            raise BadInput("a recipe must calibrate ranges", got="no stage that does", fix="add one")
        return QuantizedModel(self.model, self.scheme, self.ranges, conditioning=self.task.conditioning)
