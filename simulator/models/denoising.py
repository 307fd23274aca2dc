"""The denoising loss: mean squared error of the predicted noise, on noises and timesteps that are fixed by a seed.

Two networks, or one network at two moments of its training, are compared on the same draws, so that the difference
is that of the networks. Source: L_simple of Ho et al. 2020 (arXiv:2006.11239), equation 14.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def generator(*key: int) -> np.random.Generator:
    """A counter-based generator for the given integers; equal keys give equal numbers, whatever was drawn before."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def stratified(count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """``count`` uniform numbers in [0, 1), one in each of ``count`` equal strata, in random order."""
    return (random.permutation(count) + random.random(count)) / count


def training_draw(
    shape: tuple[int, ...], timesteps: int, power: float, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """What one training batch is diffused by: timestep int64 (n,) and noise float32 ``shape``, n its first length.

    Timesteps are ``timesteps * u ** power`` with u stratified in [0, 1) over the batch.
    """
    u = stratified(shape[0], random) ** power
    timestep = torch.from_numpy((u * timesteps).astype(np.int64))
    return timestep, torch.from_numpy(random.standard_normal(shape, dtype=np.float32))


def diffuse(images: Tensor, noise: Tensor, timestep: Tensor, alphas_cumprod: NDArray[np.floating[Any]]) -> Tensor:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise; the coefficients are taken in float64, then rounded."""
    abar = torch.tensor(alphas_cumprod, dtype=torch.float64)[timestep][:, None, None, None]
    return abar.sqrt().float() * images + (1.0 - abar).sqrt().float() * noise


@torch.no_grad()
def denoising_losses(
    module: nn.Module,
    images: NDArray[np.float32],
    alphas_cumprod: NDArray[np.floating[Any]],
    *,
    bins: int,
    seed: int,
    labels: NDArray[np.int64] | None = None,
    batch_size: int = 512,
) -> NDArray[np.float64]:
    """Loss of every image in every timestep bin: (bins, N), mean over pixels, epsilon's own scale (noise has 1).

    Bin b covers the b-th of ``bins`` equal ranges of timesteps; within it the N images take stratified timesteps.
    ``module`` is used in its present mode: call ``eval()`` first. With ``labels`` (N,) it is called with each image's.
    """
    total, count = len(alphas_cumprod), len(images)
    losses = np.empty((bins, count))
    for b in range(bins):
        random = generator(seed, b)
        timestep = torch.from_numpy(((b + stratified(count, random)) / bins * total).astype(np.int64))
        noise = torch.from_numpy(random.standard_normal(images.shape, dtype=np.float32))
        x_t = diffuse(torch.from_numpy(images), noise, timestep, alphas_cumprod)
        for start in range(0, count, batch_size):
            part = slice(start, start + batch_size)
            given = () if labels is None else (torch.from_numpy(labels[part]),)
            error = module(x_t[part], timestep[part], *given) - noise[part]
            losses[b, part] = error.double().square().mean(dim=(1, 2, 3)).numpy()
    return losses
