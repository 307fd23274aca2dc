"""Run a job: calibrate, fit, evaluate; datasets out, nothing written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import xarray as xr

from noise_models.absorption.absorbable import can_absorb
from noise_models.correction.fitting import MIN_BLOCKS
from noise_models.correction.ptqd import PTQD
from noise_models.correction.ptqd_fit import fit_ptqd
from samplers.errors import BadInput
from samplers.sampler import Sampler
from simulator.calibration.trajectory import PURPOSE, calibrate_ranges
from simulator.correction import NoCorrection
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.models.conditioning import Conditioning
from simulator.models.registry import Model
from simulator.paired import INJECTED, Arm, run_arms
from studies.job import Job, Part
from studies.state_names import state_from_text

Report = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""


@dataclass(frozen=True)
class Plan:
    """A job that was checked: everything that bad input could break is already built."""

    job: Job
    model: Model
    schemes: Mapping[str, Scheme]
    samplers: Mapping[Part, Sampler]
    conditioning: Conditioning | None = None


def plan(job: Job, model: Model) -> Plan:
    """Build samplers and schemes.

    Raises:
        BadInput: a scheme, step count, eta or conditions that break their rule.
    """
    if job.calibration_samples < MIN_BLOCKS:
        raise BadInput(
            f"calibration samples must be at least {MIN_BLOCKS}, which PTQD's fit needs",
            got=job.calibration_samples,
            fix="use more; the default is 256",
        )
    schemes = {text: Scheme.parse(text) for part in job.parts for text in part.schemes}
    conditioning = job.conditions()
    if conditioning is not None:
        conditioning.of(model, range(1))
    samplers = {part: part.build(model, job.num_inference_steps) for part in job.parts}
    return Plan(job, model, schemes, samplers, conditioning)


def execute(
    plan: Plan, report: Report, kernels_ready: Callable[[], None] = lambda: None
) -> Iterator[tuple[Part, tuple[xr.Dataset, ...]]]:
    """Yield each part with its datasets: every scheme without a correction and with PTQD, in that order.

    PTQD absorbs where the sampler's update lets it, and only corrects where x0 is clipped or the variance learned.

    Ranges and PTQD's statistics come from samples of the "calibrate" stream, results from the "evaluate" stream.
    ``kernels_ready`` is called before the first integer operation: float work comes first, so that compilation can go
    on beside it.
    """
    for part in plan.job.parts:
        yield part, _execute_part(plan, part, report, kernels_ready)


def ptqd_for(sampler: Sampler, fit: xr.Dataset) -> PTQD:
    """PTQD's correction from a calibration run; it only corrects where the sampler's update cannot absorb."""
    return fit_ptqd(fit, absorb=can_absorb(sampler.config()))


def _execute_part(plan: Plan, part: Part, report: Report, kernels_ready: Callable[[], None]) -> tuple[xr.Dataset, ...]:
    job, sampler = plan.job, plan.samplers[part]
    common: dict[str, Any] = {"seed": job.seed, "batch_size": job.batch_size}

    def progress(what: str) -> Callable[[int, int], None]:
        return lambda done, total: report(f"{part.title}: {what}", done, total)

    fit_set: dict[str, Any] = {"samples": job.calibration_samples, **common}
    given = plan.conditioning
    schemes = [plan.schemes[text] for text in part.schemes]
    ranges = {  # outputs are observed for the schemes that need them, so that no run's key depends on its neighbours
        outputs: calibrate_ranges(
            plan.model, sampler, outputs=outputs, conditioning=given, progress=progress("calibrating ranges"), **fit_set
        )
        for outputs in sorted({scheme.requantizes for scheme in schemes})
    }
    kernels_ready()
    networks = [
        QuantizedModel(plan.model, scheme, ranges[scheme.requantizes], conditioning=given) for scheme in schemes
    ]
    fits = run_arms(
        [Arm(network) for network in networks],
        sampler,
        purpose=PURPOSE,
        kinds=(INJECTED,),
        sites=False,
        progress=progress("fitting PTQD"),
        **fit_set,
    )
    state = None if job.state is None else state_from_text(job.state)
    arms = [
        Arm(network, correction, state)
        for network, fit in zip(networks, fits, strict=True)
        for correction in (NoCorrection(), ptqd_for(sampler, fit))
    ]
    return run_arms(arms, sampler, samples=job.samples, progress=progress("sampling"), **common)
