"""TDQ: the spread of most layers' activations follows the timestep.

The paper correlates "time steps and per-tensor activation variation" and says no more. Here r is Pearson's over
(sample, step) points of every run-time operand but softmax outputs; the variation is the tensor's standard deviation
or, beside it, its range, which the paper's figure shows. The paper's shares are 62.1 % for 0.5 and 38.8 % for 0.7.
What would matter is "most layers": a table of scales that most layers had no use for would be kept for the few that
do. Strong dependence should be a quarter of them at least.
"""

from __future__ import annotations

from collections.abc import Mapping

from simulator.calibration.sensitivity.temporal import temporal_correlation
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.timesteps import statistics
from studies.claims.verdict import Direction
from studies.recipes.known.tdq_ptq import SOURCE


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """Shares of operands with |r| above the paper's thresholds."""
    data = statistics(setting, seed, report)
    found = {}
    for suffix, by in (("", "std"), ("-range", "range")):
        correlation = temporal_correlation(data, by)
        for name, threshold in (("moderate", 0.5), ("strong", 0.7)):
            found[name + suffix] = correlation.share_above(threshold).share
    return found


CLAIM = Claim(
    "temporal-correlation",
    "In most layers the spread of the activations follows the timestep, in many of them strongly.",
    SOURCE,
    (
        Endpoint("moderate", "share of operands with |r(t, std)| > 0.5", "1", Direction.ABOVE, 0.5),
        Endpoint("strong", "share of operands with |r(t, std)| > 0.7", "1", Direction.ABOVE, 0.25),
        Endpoint("moderate-range", "share of operands with |r(t, range)| > 0.5", "1", Direction.ABOVE, 0.5),
        Endpoint("strong-range", "share of operands with |r(t, range)| > 0.7", "1", Direction.ABOVE, 0.25),
    ),
    (Setting("digits-unet", samples=256), Setting("digits-dit", samples=256)),
    measure,
)
