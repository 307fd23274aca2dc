"""Calibration on data that the user brings, instead of the sampler's own trajectory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from samplers.errors import BadInput
from simulator.arithmetic.granularity import PerTensor
from simulator.calibration.channels import OperandGranularity
from simulator.calibration.collector import Collector, Specs
from simulator.calibration.observers import MinMax, Observer
from simulator.calibration.ranges import Ranges
from simulator.instrument.forward import forward
from simulator.instrument.sites import watching
from simulator.models.registry import Model
from simulator.provenance import model_config


def calibrate_on(
    model: Model,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    observer: Observer = MinMax(),  # noqa: B008 - an immutable value
    granularity: OperandGranularity = PerTensor(),  # noqa: B008 - an immutable value
    outputs: bool = False,
    specs: Specs | None = None,
    allow_float: tuple[str, ...] = (),
) -> Ranges:
    """Bounds of every run-time operand over given batches, in one pass over them; the ranges serve every step.

    Args:
        model: the network.
        batches: (x, timestep): x float32 (n, *sample_shape) on the CPU, timestep int64 (n,), training indices that may
            differ within a batch. Read once, so a generator will do. Evaluated samples must not be among them: nothing
            here can know.
        observer: how bounds are found; moving averages see the batches in their order.
        granularity: which elements of an operand share bounds.
        outputs: observe the contractions' results too, under the role "output".
        specs: what the bounds are for, where the observer needs it: one spec, or one per (site, role).
        allow_float: patterns of sites and modules that stay in float.

    Returns:
        The ranges; their source holds a SHA-256 over all batches.

    Raises:
        BadInput: no batches, or one of another form, shape or dtype (half precision included), that is not finite, or
            whose timesteps lie outside the schedule.
    """
    collector = Collector(observer, granularity=granularity, outputs=outputs, specs=specs)
    digest, samples, count = hashlib.sha256(), 0, 0
    with torch.no_grad(), watching(model.module):
        for batch in batches:
            x, timestep = checked_batch(model, batch, count)
            digest.update(repr(tuple(x.shape)).encode())
            digest.update(x.contiguous().numpy(force=True).tobytes())
            digest.update(timestep.contiguous().numpy(force=True).tobytes())
            forward(model.module, collector, x, timestep, call=model.call, allow_float=allow_float)
            samples, count = samples + len(x), count + 1
    if not count:
        raise BadInput("calibration needs at least one batch", got="none", fix="an iterator is read only once")
    source = {
        **model_config(model),
        **collector.config(),
        "samples": samples,
        "batches": count,
        "data_sha256": digest.hexdigest(),
    }
    return collector.ranges(source)


def checked_batch(model: Model, batch: object, index: int) -> tuple[Tensor, Tensor]:
    """A batch as x and timestep, once it is what :func:`calibrate_on` takes; ``index`` names it in errors.

    Raises:
        BadInput: as there.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2 or not all(isinstance(t, Tensor) for t in batch):
        raise BadInput(
            "a batch must be two tensors, x and timestep", got=f"{type(batch).__name__} as batch {index}",
            fix="yield (x, timestep)",
        )  # fmt: skip
    x, timestep = batch
    if x.dtype != torch.float32 or x.device.type != "cpu" or x.layout != torch.strided:
        raise BadInput(
            "x must be a dense float32 tensor on the CPU", got=f"{x.dtype} on {x.device} as batch {index}",
            fix="convert it with .float().cpu()",
        )  # fmt: skip
    if x.ndim == 0 or not len(x) or tuple(x.shape[1:]) != tuple(model.sample_shape):
        raise BadInput(
            f"x must have shape (n, {', '.join(map(str, model.sample_shape))}) with n of at least 1",
            got=f"{tuple(x.shape)} as batch {index}", fix="reshape it",
        )  # fmt: skip
    if timestep.dtype != torch.int64 or timestep.device.type != "cpu" or tuple(timestep.shape) != (len(x),):
        raise BadInput(
            f"timestep must be int64 of shape ({len(x)},) on the CPU",
            got=f"{timestep.dtype} of shape {tuple(timestep.shape)} as batch {index}", fix="give one index per sample",
        )  # fmt: skip
    if not torch.isfinite(x).all():
        raise BadInput("calibration data must be finite", got=f"NaN or infinity in batch {index}", fix="check the data")
    if model.schedule is None:
        return x, timestep  # what times a network without a schedule takes is its own matter
    last = model.schedule.num_train_timesteps - 1
    if timestep.min() < 0 or timestep.max() > last:
        raise BadInput(
            f"timesteps must lie in 0..{last}", got=f"{int(timestep.min())} to {int(timestep.max())} as batch {index}",
            fix="pass training indices",
        )  # fmt: skip
    return x, timestep
