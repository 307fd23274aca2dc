"""A recipe: mechanisms in order, where they are from, and what differs from there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from samplers.errors import BadInput
from simulator.correction import Correction
from simulator.instrument.quantized import QuantizedModel
from simulator.models.registry import Model
from studies.recipes.preparation import Preparation
from studies.recipes.task import Task

Report = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""


class Stage(Protocol):
    """One mechanism with its parameters: a frozen value."""

    @property
    def name(self) -> str:
        """What it does, in a word or two."""
        ...

    def config(self) -> dict[str, Any]:
        """Its parameters as plain JSON values: equal exactly when two stages do the same."""
        ...

    def require(self, task: Task) -> None:
        """Find before the work what would fail in it.

        Raises:
            BadInput: the task lacks what the mechanism needs.
        """
        ...

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """What was prepared so far, with what this adds."""
        ...


@runtime_checkable
class Shortened(Protocol):
    """A stage of many minutes that has a short form, to see that it runs."""

    def quick(self) -> Stage:
        """The short form."""
        ...


@dataclass(frozen=True)
class Source:
    """Where a method was published."""

    title: str
    authors: str
    venue: str


@dataclass(frozen=True)
class Prepared:
    """A recipe's result.

    Attributes:
        reference: the network in full precision.
        network: what runs in integers; of the reference, or of a model derived from it.
        correction: of the network's output and the sampler's updates.
        log: what the stages have to say of their work, by stage, as plain JSON values; the same for the same seed.
        seconds: of the processor, all threads together, since the last start; in no key.
    """

    reference: Model
    network: QuantizedModel
    correction: Correction
    log: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class Recipe:
    """A named way to quantize a model.

    Args:
        name: as on the command line.
        summary: one sentence.
        source: the paper.
        stages: what is done, in order.
        deviations: where it differs from the paper or its released code, each one sentence.

    Raises:
        BadInput: no name, no stage.
    """

    name: str
    summary: str
    source: Source
    stages: tuple[Stage, ...]
    deviations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or not self.stages:
            raise BadInput("a recipe has a name and stages", got=repr(self.name), fix="give both")

    def config(self) -> dict[str, Any]:
        """All that determines what it does, as plain JSON values."""
        return {"recipe": self.name, "stages": [{"stage": stage.name, **stage.config()} for stage in self.stages]}

    def quick(self) -> Recipe:
        """The same with the short form of every stage that has one: preset ``quick``, whose results mean nothing."""
        stages = tuple(stage.quick() if isinstance(stage, Shortened) else stage for stage in self.stages)
        return replace(self, stages=stages)

    def require(self, task: Task) -> None:
        """Refuse a task that some stage cannot do.

        Raises:
            BadInput: which says what is needed.
        """
        for stage in self.stages:
            stage.require(task)

    def prepare(
        self, task: Task, *, seed: int = 0, report: Report = lambda *_: None, folder: Path | None = None
    ) -> Prepared:
        """Quantize.

        Args:
            task: what.
            seed: of calibration data and of all that is optimised.
            report: called with (what is being done, steps done, steps in all).
            folder: where reconstruction and training keep what is done, and go on from; the result has the same bits.

        Raises:
            BadInput: the task lacks what a stage needs, before the work.
        """
        self.require(task)
        started = time.process_time()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        preparation = Preparation.of(task, seed, folder)
        for stage in self.stages:
            preparation = stage.apply(preparation, report)
        return Prepared(
            task.model, preparation.quantized(), preparation.correction, preparation.log,
            time.process_time() - started,
        )  # fmt: skip
