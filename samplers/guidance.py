"""Classifier-free guidance: two predictions of one network, with and without a condition, made into one denoiser."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from samplers.errors import BadInput
from samplers.loop import Denoiser
from samplers.method import split_variance

ConditionalDenoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Called as denoiser(x, timestep, condition), all three with the batch as first axis."""


def combine(unconditional: Tensor, conditional: Tensor, weight: float) -> Tensor:
    """``unconditional + weight (conditional - unconditional)``, every operation rounded in the tensors' dtype.

    Weight 0 is the unconditional prediction, 1 the conditional one up to rounding, above 1 beyond it. NaN and infinite
    entries spread as in the formula. Source: Ho and Salimans 2022 (arXiv:2207.12598), equation 6 with weight = 1 + w,
    in the form that pipelines compute (diffusers' ``guidance_scale``).
    """
    return unconditional + weight * (conditional - unconditional)


def combine_outputs(unconditional: Tensor, conditional: Tensor, weight: float, x: Tensor) -> Tensor:
    """:func:`combine` of two outputs at x; where they hold a variance too, the conditional one's is kept as it is."""
    split = [split_variance(x, output) for output in (unconditional, conditional)]
    (without, _), (given, variance) = split
    guidance = combine(without, given, weight)
    return guidance if variance is None else torch.cat([guidance, variance], dim=1)


def guided(denoiser: ConditionalDenoiser, condition: Tensor, null: Tensor, weight: float) -> Denoiser:
    """A denoiser of (x, timestep) for the samples whose conditions are given.

    Weights 1 and 0 are the conditional and the unconditional network alone: one call for the n samples, its very bits.
    Any other weight makes one call for 2n samples, the n unconditional ones first, as pipelines do, so that a network
    that looks at its whole batch (a dynamic activation range) sees what it would see there.

    Args:
        denoiser: the network.
        condition: (n, ...), one for each sample of the batch that the result is called with: labels, embeddings.
            A batch of other samples needs a denoiser of its own, so a sample keeps its condition however batches are
            cut.
        null: what stands for no condition, (...) or (n, ...), of the same dtype.
        weight: guidance weight, finite; 3 is common.

    Raises:
        BadInput: a weight that is not finite, a null of another shape or dtype, and, when called, a batch of another
            size.
    """
    if not math.isfinite(weight):
        raise BadInput("the guidance weight must be finite", got=weight, fix="1 is no guidance")
    if null.dtype != condition.dtype or null.shape not in (condition.shape, condition.shape[1:]):
        raise BadInput(
            "null must have a condition's dtype and its shape, with or without the batch",
            got=f"{null.dtype} {tuple(null.shape)} for {condition.dtype} {tuple(condition.shape)}",
            fix="give the condition of an unconditional sample",
        )
    null = null.expand_as(condition)

    def denoise(x: Tensor, timestep: Tensor) -> Tensor:
        if len(x) != len(condition):
            raise BadInput(
                "a guided denoiser takes the samples whose conditions it holds",
                got=f"{len(x)} samples for {len(condition)} conditions",
                fix="make one denoiser for each batch",
            )
        if weight in (0, 1):
            return denoiser(x, timestep, condition if weight == 1 else null)
        both = denoiser(torch.cat([x, x]), torch.cat([timestep, timestep]), torch.cat([null, condition]))
        unconditional, conditional = both.chunk(2)
        return combine_outputs(unconditional, conditional, weight, x)

    return denoise
