"""Many samples of an exact subject: a noise stream's cost is one of its samples, so each of these holds 50 draws."""

from __future__ import annotations

import numpy as np
import torch

from samplers import NoiseStream, Sampler, sample
from simulator.models.exact_denoiser import ExactDenoiser

EACH = 50


def drawn_path(network: ExactDenoiser, sampler: Sampler, count: int, dimension: int, seed: int = 1) -> list[np.ndarray]:
    """x after every step in float64, each (count, dimension)."""
    states: list[np.ndarray] = []

    def denoise(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return network(x.reshape(-1, dimension), timestep.repeat_interleave(EACH)).reshape(x.shape)

    sample(
        denoise, sampler, NoiseStream(seed, "test"), range(count // EACH), (EACH, dimension),
        denoiser_dtype=torch.float64,
        callback=lambda step, timestep, x, output, x_next: states.append(x_next.reshape(-1, dimension).numpy()),
    )  # fmt: skip
    return states
