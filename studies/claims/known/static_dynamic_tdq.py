"""TDQ: scales of the tensor at hand beat one static scale, and scales of the timestep beat both.

The paper's table 4 is of a network trained at W4A4, FID 7.30, 6.30 and 4.48. Here intervals are fitted after
training, W8A4. Half a dB, 11 % of the noise, is what would make one choose a method by its quality.
"""

from __future__ import annotations

from collections.abc import Mapping

from simulator.calibration.intervals.generator import TDQ
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import final_db
from studies.claims.timesteps import fit_of, observe, paired, static
from studies.claims.verdict import Direction
from studies.recipes.known.tdq_ptq import SOURCE

BITS = "w8a4"


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """One fitted scale, extremes of each tensor, and TDQ."""
    observed, fit = observe(setting, seed, report), fit_of(setting)
    one, tdq = (observed.network(observed.fitted(m, BITS, report, fit), BITS) for m in (static(), TDQ()))
    dynamic = QuantizedModel(observed.model, Scheme.parse(f"{BITS}-dyn"), one.ranges)
    found = paired([one, dynamic, tdq], observed.sampler, setting, seed, report)
    static_db, dynamic_db, tdq_db = map(final_db, found)
    return {"dynamic": dynamic_db - static_db, "tdq": tdq_db - dynamic_db}


CLAIM = Claim(
    "static-dynamic-tdq",
    "Dynamic scales beat a static one, and scales that follow the timestep beat dynamic ones.",
    SOURCE,
    (
        Endpoint(
            "dynamic",
            "SQNR of the final sample, dynamic (max) minus one fitted scale, W8A4",
            "dB",
            Direction.ABOVE,
            0.5,
        ),
        Endpoint("tdq", "SQNR of the final sample, TDQ minus dynamic (max), W8A4", "dB", Direction.ABOVE, 0.5),
    ),
    (Setting("digits-unet", samples=256), Setting("digits-dit", samples=256)),
    measure,
)
