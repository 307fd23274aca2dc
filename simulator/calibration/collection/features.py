"""Density and diversity of the steps' features inside a network: what EDA-DM's collection is driven by."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samplers.errors import BadInput
from samplers.loop import sample
from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from samplers.schedule import require_schedule
from samplers.validation import require_int, require_real
from simulator.calibration.trajectory import PURPOSE
from simulator.instrument.forward import forward
from simulator.instrument.interception import InFloat
from simulator.instrument.sites import watching
from simulator.models.conditioning import Conditioning, call_for
from simulator.models.registry import Model


def feature_scores(
    model: Model,
    sampler: Sampler,
    *,
    module: str,
    samples: int = 64,
    seed: int = 0,
    purpose: str = PURPOSE,
    radius: float | None = None,
    allow_float: tuple[str, ...] = (),
    conditioning: Conditioning | None = None,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Density and diversity of each step along one batch of full-precision trajectories.

    With F_i the first input of a module at step i, (n, channels, ...) as the network holds it::

        density[i]   = number of j != i with mean((F_i - F_j)^2) <= radius
        diversity[i] = sum over j != i and over all places but axis 1 of 1 - cos(F_i, F_j along axis 1)

    as EDA-DM's released code computes them, for the attention in the middle of a UNet. Memory: the
    features of all steps.

    Args:
        model: the network.
        sampler: the sampler that will run.
        module: path of the module whose input is compared, such as ``"mid.attention"``.
        samples: of the batch; 64 in the released scripts, 1024 for CIFAR-10.
        seed: of the noise stream.
        purpose: of the noise stream.
        radius: largest mean squared distance of neighbours. The released 3.0 (CIFAR-10, ImageNet) and 0.3 (others)
            belong to their models; None takes the median over all pairs, a rule of ours.
        allow_float: patterns of sites and modules that stay in float.
        conditioning: what samples are conditioned on, and guidance.

    Returns:
        Density and diversity, by loop index: what :class:`DensityDiversity` takes.

    Raises:
        BadInput: no such module, one that does not run or takes no tensor of two axes first, a radius below 0, a
            sampler of one step, or a model without a noise schedule.
    """
    require_int("samples", samples, 1)
    require_schedule(model.schedule)
    if radius is not None and require_real("radius", radius) < 0:
        raise BadInput("radius must be at least 0", got=radius, fix="pass None for the median distance")
    if len(sampler.updates) < 2:
        raise BadInput("features are compared between steps", got="a sampler of one step", fix="sample with more")
    watched = _submodule(model, module)
    call, features = call_for(model, conditioning, range(samples)), []
    seen: list[Tensor] = []

    def note(_: nn.Module, args: tuple[object, ...]) -> None:
        if not args or not isinstance(args[0], Tensor) or args[0].ndim < 2:
            raise _NoTensor
        seen.append(args[0].detach().clone())

    def denoise(x: Tensor, timestep: Tensor) -> Tensor:
        seen.clear()
        output = forward(model.module, InFloat(), x, timestep, call=call, allow_float=allow_float)
        if not seen:
            raise BadInput("the module must run", got=f"{module} did not", fix="name one that the network calls")
        features.append(seen[0])
        if len(features) == len(sampler.updates):
            raise _Enough
        return output

    hook = watched.register_forward_pre_hook(note)
    try:
        with torch.no_grad(), watching(model.module), suppress(_Enough):
            sample(denoise, sampler, NoiseStream(seed, purpose), range(samples), model.sample_shape)
    except _NoTensor:
        raise BadInput(
            "the module's first argument must be a tensor (n, channels, ...)", got=module, fix="name another module"
        ) from None
    finally:
        hook.remove()
    return scores_of(features, radius)


def scores_of(features: list[Tensor], radius: float | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Density and diversity of features at hand, one tensor (n, channels, ...) per step, two at least."""
    count = len(features)
    distance, diversity = np.zeros((count, count)), np.zeros(count)
    for i in range(count):
        for j in range(i):
            apart = float((1 - F.cosine_similarity(features[i].double(), features[j].double(), dim=1, eps=1e-6)).sum())
            distance[i, j] = distance[j, i] = float((features[i].double() - features[j].double()).square().mean())
            diversity[i] += apart
            diversity[j] += apart
    others = ~np.eye(count, dtype=bool)
    near = np.median(distance[others]) if radius is None else radius
    density = ((distance <= near) & others).sum(axis=1)
    return tuple(density.astype(float).tolist()), tuple(diversity.tolist())


class _Enough(Exception):
    """The features of the last step are there."""


class _NoTensor(Exception):
    """The module takes something else first."""


def _submodule(model: Model, path: str) -> nn.Module:
    try:
        return model.module.get_submodule(path)
    except AttributeError:
        raise BadInput(
            "module must be the path of one of the network's modules", got=repr(path),
            fix="look them up in model.module.named_modules()",
        ) from None  # fmt: skip
