"""Ranges of every run-time operand over a calibration set."""

from __future__ import annotations

from collections.abc import Callable

import torch

from samplers.errors import BadInput
from samplers.validation import require_int
from simulator.arithmetic.granularity import PerTensor
from simulator.calibration.channels import OperandGranularity
from simulator.calibration.collection.calibration_set import CalibrationSet
from simulator.calibration.collection.order import OneStep, Order, require_order
from simulator.calibration.collector import Collector, Specs
from simulator.calibration.observers import MinMax, Observer
from simulator.calibration.ranges import Ranges
from simulator.calibration.steps import ALL_STEPS, StepSets
from simulator.instrument.forward import forward
from simulator.instrument.sites import watching
from simulator.models.conditioning import Conditioning, call_for, conditioning_config
from simulator.models.registry import Model
from simulator.provenance import model_config


def calibrate_on_set(
    model: Model,
    calibration_set: CalibrationSet,
    *,
    observer: Observer = MinMax(),  # noqa: B008 - an immutable value
    steps: StepSets = ALL_STEPS,
    granularity: OperandGranularity = PerTensor(),  # noqa: B008 - an immutable value
    outputs: bool = False,
    specs: Specs | None = None,
    batch_size: int = 64,
    order: Order = OneStep(),  # noqa: B008 - an immutable value
    allow_float: tuple[str, ...] = (),
    conditioning: Conditioning | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Ranges:
    """Bounds of every run-time operand over a set, in one pass over its points.

    Moving averages depend on the order of the passes: by default :class:`OneStep`, which for a set of all steps is the
    order of ``calibrate_ranges`` and ends each round at the least noisy step; :class:`Mixed` gives every pass points of
    any step, as PTQ4DM's averages see them. Other observers depend on it by nothing but float rounding.

    Args:
        model: the network, also one derived from the model that the set was collected with.
        calibration_set: the points.
        observer: how bounds are found.
        steps: which steps share bounds; every set must observe a step that has points.
        granularity: which elements of an operand share bounds.
        outputs: observe the contractions' results too, under the role "output".
        specs: what the bounds are for, where the observer needs it: one spec, or one per (site, role).
        batch_size: points per forward pass.
        order: of the passes.
        allow_float: patterns of sites and modules that stay in float, as the quantized network's.
        conditioning: what the samples are conditioned on; that of the collection, since a point belongs to its sample.
        progress: called after each pass with (points done, points in all).

    Raises:
        BadInput: an argument breaks its rule, points that are none of the model's, other conditions than those of the
            collection, a step set that observes no point, sets of single steps with passes of mixed ones, or an operand
            that is not finite.
    """
    require_int("batch_size", batch_size, 1)
    order = require_order(order)
    _check(model, calibration_set, conditioning)
    collector = Collector(observer, steps=steps, granularity=granularity, outputs=outputs, specs=specs)
    _check_steps(steps, calibration_set, order)
    done = 0
    with torch.no_grad(), watching(model.module):
        for batch in calibration_set.batches(batch_size, order):
            collector.step = batch.one_step
            call = call_for(model, conditioning, batch.member.numpy())
            forward(model.module, collector, batch.x, batch.timestep, call=call, allow_float=allow_float)
            done += len(batch.x)
            if progress is not None:
                progress(done, len(calibration_set))
    source = {
        **model_config(model),
        **conditioning_config(conditioning),
        **collector.config(),
        "calibration_set": calibration_set.config(),
        "order": order.config(),
        "batch_size": batch_size,
    }
    return collector.ranges(source)


def _check(model: Model, points: CalibrationSet, conditioning: Conditioning | None) -> None:
    if not isinstance(points, CalibrationSet):
        raise BadInput("calibration_set must be a CalibrationSet", got=type(points).__name__, fix="collect one")
    if tuple(points.x.shape[1:]) != tuple(model.sample_shape):
        raise BadInput(
            f"points must have the model's shape {tuple(model.sample_shape)}", got=tuple(points.x.shape[1:]),
            fix="collect with this model",
        )  # fmt: skip
    if model.schedule is not None and int(points.timestep.max()) >= model.schedule.num_train_timesteps:
        raise BadInput(
            f"timesteps must lie in 0..{model.schedule.num_train_timesteps - 1}", got=int(points.timestep.max()),
            fix="collect with this model",
        )  # fmt: skip
    given = conditioning_config(conditioning)
    collected = {key: points.source[key] for key in ("guidance", "conditions") if key in points.source}
    if "collection" in points.source and collected != given:
        raise BadInput(
            "a set must be calibrated on under the conditions of its collection",
            got=f"{given or 'none'} for a set of {collected or 'none'}", fix="pass the same conditioning",
        )  # fmt: skip


def _check_steps(steps: StepSets, points: CalibrationSet, order: Order) -> None:
    present = set(points.step.unique().tolist())
    for s in steps.sets:
        if s.observed is None:
            continue
        if not present.intersection(s.observed):
            raise BadInput(
                "every step set must observe a step that has points",
                got=f"set {s.name!r} among steps {sorted(present)}",
                fix="collect those steps, or name sets by what they observe and what they serve",
            )  # fmt: skip
        if not isinstance(order, OneStep):
            raise BadInput(
                "sets of single steps need passes of one step", got=order.config(), fix="use order=OneStep()"
            )
