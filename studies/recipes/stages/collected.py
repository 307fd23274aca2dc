"""Ranges of run-time operands on a calibration set: which points of which trajectories, chosen by a policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from samplers.errors import BadInput
from simulator.arithmetic.quantizer import QuantSpec
from simulator.calibration.collection.order import Mixed, OneStep, Order
from simulator.calibration.collection.policy import Collection
from simulator.calibration.collection.set_ranges import calibrate_on_set
from simulator.calibration.collection.trajectories import collect
from simulator.calibration.observers import MinMax, Observer
from simulator.instrument.plan import Plan
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import survey
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Report
from studies.recipes.task import Task


@dataclass(frozen=True)
class CollectedRanges:
    """Bounds of every operand over collected points; they serve all steps.

    Args:
        collection: which points.
        samples: trajectories of the stream "calibrate" that they are picked from.
        observer: how bounds are found.
        order: of the passes, which moving averages depend on; a random one is drawn with the preparation's seed,
            whatever its own.
    """

    collection: Collection
    samples: int = 1024
    observer: Observer = MinMax()  # noqa: RUF009 - an immutable value
    order: Order = OneStep()  # noqa: RUF009 - an immutable value
    name = "ranges"

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        return {
            "collection": self.collection.config(), "samples": self.samples, "observer": self.observer.config(),
            "order": self.order.config()["name"],
        }  # fmt: skip

    def require(self, task: Task) -> None:
        """Nothing but the model."""

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """Collect with the task's model, observe the network as it is now."""
        task = preparation.task
        points = collect(
            task.model, task.sampler, fitted(self.collection, task.steps), samples=self.samples, seed=preparation.seed,
            batch_size=task.batch_size, conditioning=task.conditioning,
            progress=lambda done, total: report("collecting", done, total),
        )  # fmt: skip
        order = replace(self.order, seed=preparation.seed) if isinstance(self.order, Mixed) else self.order
        ranges = calibrate_on_set(
            preparation.model, points, observer=self.observer, outputs=preparation.scheme.requantizes,
            specs=operand_specs(preparation) if self.observer.needs_spec else None, batch_size=task.batch_size,
            order=order, conditioning=task.conditioning,
            progress=lambda done, total: report("calibrating ranges", done, total),
        )  # fmt: skip
        histogram = [int(count) for count in points.histogram(task.steps)]
        return replace(preparation, ranges=ranges).noting(self.name, points_per_step=histogram)


def fitted(collection: Collection, steps: int) -> Collection:
    """The policy, with no more steps than there are."""
    count = getattr(collection, "count", None)
    if not isinstance(count, int) or count <= steps:
        return collection
    return replace(collection, count=steps)  # type: ignore[type-var]  # any policy with a count is a dataclass


def operand_specs(preparation: Preparation) -> dict[tuple[SiteKey, str], QuantSpec]:
    """What each operand's ranges are for; observers that search need to know.

    Raises:
        BadInput: an operand that has other bits at other steps.
    """
    plan = Plan(preparation.scheme, survey(preparation.model, conditioning=preparation.task.conditioning))
    found: dict[tuple[SiteKey, str], QuantSpec] = {}
    for facts in plan.sites:
        for treatment in plan.treatments(facts.key):
            for role, operand in treatment.operands.items():
                if found.setdefault((facts.key, role), operand.spec) != operand.spec:
                    raise BadInput(
                        "what is fitted to a format needs the same one at every step",
                        got=f"{found[facts.key, role].format} and {operand.spec.format} at {facts.key} {role}",
                        fix="calibrate by an observer that needs none, such as MinMax()",
                    )
    return found
