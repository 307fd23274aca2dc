"""Candidates run for their noise: what every rule of step-aware precision is made from."""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr

from noise_models.precision.candidates import Candidates
from noise_models.precision.measurement import candidate_table
from samplers.sampler import Sampler
from simulator.calibration.trajectory import PURPOSE
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.models.registry import Model
from simulator.paired import INJECTED, Arm, run_arms


def measure_candidates(
    candidates: Candidates,
    network: Callable[[Scheme], QuantizedModel],
    sampler: Sampler,
    *,
    samples: int,
    seed: int,
    batch_size: int,
    reference: Model | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Injected noise and bit operations of each candidate at each step, on the stream "calibrate".

    Args:
        candidates: what is chosen from.
        network: the network under a scheme.
        sampler: the sampler.
        samples: 8 at least.
        seed: of the stream.
        batch_size: samples per forward pass.
        reference: the network in full precision, where the quantized ones derive from it; their own if None.
        progress: called after each step.

    Returns:
        As ``candidate_table``.

    Raises:
        BadInput: as ``run_arms``, ``Candidates.bops`` and ``candidate_table``.
    """
    networks = [network(scheme) for row in candidates.measured() for scheme in row]
    runs = run_arms(
        [Arm(each) for each in networks], sampler, samples=samples, seed=seed, batch_size=batch_size, purpose=PURPOSE,
        kinds=(INJECTED,), sites=False, reference=reference, progress=progress,
    )  # fmt: skip
    return candidate_table(candidates, runs, candidates.bops(networks[0].sites, networks[0].model.module))
