"""Claim: absorption brings exact distributions of Gaussian data and of a mixture back, as docs/corrections.md says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from noise_models import absorb, gaussian_path, gaussian_wasserstein, line_path
from samplers import DDIM, DDPM, NoiseSchedule
from simulator.models.mixture import Mixture
from simulator.models.subjects import gaussian

PAGE = Path(__file__).parents[2] / "docs" / "corrections.md"
SCHEDULE = NoiseSchedule()
BIMODAL = Mixture([0.3, 0.7], [[-1.0], [1.0]], [[0.01], [0.04]])
GRID = np.linspace(-2.5, 2.5, 4001)
SAMPLERS = {
    "DDIM eta 0.5": DDIM(SCHEDULE, 20, eta=0.5),
    "DDIM eta 1": DDIM(SCHEDULE, 20, eta=1.0),
    "DDPM fixed_large": DDPM(SCHEDULE, 20, "fixed_large"),
}


@pytest.mark.parametrize("q", [0.01, 0.05])
@pytest.mark.parametrize("name", SAMPLERS)
def test_absorb__moves_exact_distributions_to_the_noise_free_samplers_as_documented(name: str, q: float) -> None:
    sampler, data = SAMPLERS[name], gaussian().module.data
    absorbed = [absorb(update, 0.0, q) for update in sampler.updates]
    runs = ({}, {"epsilon_variance": q}, {"updates": absorbed, "epsilon_variance": q})
    clean, *others = (gaussian_path(sampler, data, **options).at(-1) for options in runs)
    distances = [gaussian_wasserstein(other, clean) / data.dimension**0.5 for other in others]
    clean, *others = (line_path(sampler, BIMODAL, **options) for options in runs)
    distances += [np.trapezoid(np.abs(other.cdf(GRID) - clean.cdf(GRID)), GRID) for other in others]
    assert distances[1] < 0.5 * distances[0]
    assert distances[3] < 0.5 * distances[2]
    noisy, better, mixed, restored = (f"{1000 * distance:.2g}" for distance in distances)
    row = f"| {name} | {q} | {noisy} | {better} | {mixed} | {restored} |"
    assert row in PAGE.read_text(encoding="utf-8"), row
