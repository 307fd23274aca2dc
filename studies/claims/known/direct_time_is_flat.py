"""TDQ: given the timestep itself instead of its Fourier code, a generator gives nearly constant intervals.

Fitted after training, W8A4, to what the same generator with the code is fitted to. The timestep is given as t / 1000:
as the index itself, 0 to 999, one step of the optimizer moves a scale by orders of magnitude, fits fail for the size
of the numbers and not for their frequency, and nothing is learned that could be flat. Operands whose fit diverged or
did not help keep one scale by our rule, which is no finding either: they are left out, and a fit that leaves out more
than half has no value. A scale that is wrong by a tenth costs 1 % of the rounding noise, so intervals that span less
than a tenth are constant for all that matters.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simulator.calibration.intervals.encoding import DirectCode
from simulator.calibration.intervals.generator import TDQ
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import injected_db
from studies.claims.series import relative_span
from studies.claims.timesteps import fit_of, observe, paired, scales_of
from studies.claims.verdict import Direction
from studies.recipes.known.tdq_ptq import SOURCE

BITS = "w8a4"


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """How far intervals move over the timesteps, and what the code gains."""
    observed, fit = observe(setting, seed, report), fit_of(setting)
    codes = (TDQ(), TDQ(code=DirectCode(1000.0)))
    coded, direct = (observed.fitted(method, BITS, report, fit) for method in codes)
    networks = [observed.network(found, BITS) for found in (coded, direct)]
    with_code, without = paired(networks, observed.sampler, setting, seed, report, kinds=("injected",))
    return {
        "span": median_span(scales_of(observed, direct), ~(direct.diverged | direct.kept)),
        "gain": float(injected_db(with_code).mean() - injected_db(without).mean()),
    }


def median_span(scales: np.ndarray, learned: np.ndarray) -> float:
    """Median relative span of the learned operands of scales (operands, T); NaN if under half were learned."""
    if 2 * learned.sum() < len(learned):
        return float("nan")
    return float(np.median(relative_span(scales[learned])))


CLAIM = Claim(
    "direct-time-is-flat",
    "A generator that is given the timestep itself learns intervals that hardly change over time, and fits worse.",
    SOURCE,
    (
        Endpoint(
            "span", "(largest - smallest) / mean scale over timesteps, median of operands, given t / 1000", "1",
            Direction.BELOW, 0.1,
        ),
        Endpoint(
            "gain", "SQNR of epsilon, mean over steps, W8A4, Fourier code minus t / 1000", "dB", Direction.ABOVE, 0.25
        ),
    ),
    (Setting("digits-unet", samples=256), Setting("digits-dit", samples=256)),
    measure,
)  # fmt: skip
