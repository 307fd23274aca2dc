"""Draw every set of a job: full precision, full precision again, and each scheme on the first one's noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samplers.state import FLOAT64
from simulator.calibration.trajectory import PURPOSE, calibrate_ranges
from simulator.instrument.quantized import QuantizedModel
from simulator.paired import INJECTED, Arm, run_arms
from simulator.provenance import run_config
from studies.execute import Plan, Report, ptqd_for
from studies.quality.measurement import FULL_PRECISION
from studies.quality.sampling import Generator, final_images

EVALUATE, REPEAT = "evaluate", "repeat"
"""Noise streams of the sets, and of full precision's second run."""

Images = NDArray[np.float32]


def draw(
    plan: Plan, report: Report, kernels_ready: Callable[[], None], *, ptqd: bool
) -> tuple[dict[str, Images], Images]:
    """Images by name, and full precision's on another noise stream.

    Ranges and PTQD's statistics come from a stream of their own.
    """
    (part,), job = plan.job.parts, plan.job
    sampler, given = plan.samplers[part], plan.conditioning
    common: dict[str, Any] = {"seed": job.seed, "batch_size": job.batch_size, "conditioning": given}

    def progress(what: str) -> Callable[[int, int], None]:
        return lambda done, total: report(what, done, total)

    def drawn(name: str, generator: Generator, purpose: str = EVALUATE) -> Images:
        return final_images(
            generator, sampler, samples=job.samples, purpose=purpose, progress=progress(f"sampling {name}"), **common
        )

    model = plan.model
    found = {FULL_PRECISION: drawn("full precision", Generator(model))}
    repeat = drawn("full precision again", Generator(model), REPEAT)
    schemes = [plan.schemes[text] for text in part.schemes]
    fit_set: dict[str, Any] = {"samples": job.calibration_samples, **common}
    ranges = {
        outputs: calibrate_ranges(model, sampler, outputs=outputs, progress=progress("calibrating ranges"), **fit_set)
        for outputs in sorted({scheme.requantizes for scheme in schemes})
    }
    kernels_ready()
    for scheme in schemes:
        network = QuantizedModel(model, scheme, ranges[scheme.requantizes], conditioning=given)
        found[str(scheme)] = drawn(str(scheme), Generator(model, network))
        if ptqd:
            (fit,) = run_arms(
                (Arm(network),), sampler, purpose=PURPOSE, kinds=(INJECTED,), sites=False,
                progress=progress(f"fitting PTQD to {scheme}"), **fit_set,
            )  # fmt: skip
            correction = ptqd_for(sampler, fit)
            use = {"sampler": sampler.config(), "state": type(FLOAT64).__name__, "batch_size": job.batch_size}
            correction.check(run_config(network, correction, given, **use))
            name = f"{scheme}+ptqd"
            found[name] = drawn(name, Generator(model, network, correction))
    return found, repeat
