"""From effects to verdicts, by their interval alone.

Each seed gives one value of every endpoint, since a seed redraws calibration data, whatever is optimised, and sampling
noise. The interval over seeds is Student's; within one claim all are simultaneous (Bonferroni), and over the table of
all claims p-values are adjusted by Holm's rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy.stats import t as student

from samplers.errors import BadInput

LEVEL = 0.05
"""Of error: of all intervals of one claim together, and of all verdicts of the table after Holm's adjustment."""

FEWEST_SEEDS = 3


class Verdict(Enum):
    """What an interval says of a claim."""

    CONFIRMED = "confirmed"
    """It lies wholly beyond the smallest effect that would matter."""
    CONTRADICTED = "contradicted"
    """It lies wholly on the other side."""
    INCONCLUSIVE = "inconclusive"
    """It holds the smallest effect."""
    NOT_TESTABLE = "not testable here"
    """There is no value: a seed gave none."""


class Direction(Enum):
    """On which side of its smallest effect a claim puts the endpoint."""

    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True)
class Finding:
    """An endpoint over seeds, against the smallest effect.

    Attributes:
        estimate: mean over seeds.
        low: lower end, simultaneous with the claim's other intervals; NaN where there is none.
        high: upper end.
        p: two-sided, of a true mean at the smallest effect; NaN where not testable.
        verdict: by the interval alone.
    """

    estimate: float
    low: float
    high: float
    p: float
    verdict: Verdict


def find(values: Sequence[float], smallest: float, direction: Direction, *, simultaneous: int = 1) -> Finding:
    """The finding of one endpoint.

    Values that are all the same (an exact calculation) have an interval of no width.

    Args:
        values: one per seed.
        smallest: the effect from which on it would matter.
        direction: of the claim.
        simultaneous: how many intervals the claim has.

    Raises:
        BadInput: fewer than 3 seeds.
    """
    every = np.asarray(values, np.float64)
    if len(every) < FEWEST_SEEDS:
        raise BadInput(f"a finding needs at least {FEWEST_SEEDS} seeds", got=len(every), fix="run more")
    if not np.isfinite(every).all():
        return Finding(np.nan, np.nan, np.nan, np.nan, Verdict.NOT_TESTABLE)
    mean, error = float(every.mean()), float(every.std(ddof=1) / np.sqrt(len(every)))
    freedom = len(every) - 1
    arm = float(student.ppf(1 - LEVEL / (2 * simultaneous), freedom)) * error
    p = _two_sided(mean - smallest, error, freedom)
    return Finding(mean, mean - arm, mean + arm, p, _verdict(mean - arm, mean + arm, smallest, direction))


def _two_sided(distance: float, error: float, freedom: int) -> float:
    if error == 0:
        return 1.0 if distance == 0 else 0.0
    return float(2 * student.sf(abs(distance) / error, freedom))


def _verdict(low: float, high: float, smallest: float, direction: Direction) -> Verdict:
    above, below = low > smallest, high < smallest
    if not (above or below):
        return Verdict.INCONCLUSIVE
    return Verdict.CONFIRMED if above is (direction is Direction.ABOVE) else Verdict.CONTRADICTED


def holm(findings: Sequence[Finding]) -> list[Verdict]:
    """Verdicts that hold together: Holm's step-down rule over the p-values of all findings.

    What its own interval leaves inconclusive stays so; findings that cannot be tested are no part of the family.
    """
    tested = [index for index, finding in enumerate(findings) if not np.isnan(finding.p)]
    verdicts = [finding.verdict for finding in findings]
    holds = True
    for rank, index in enumerate(sorted(tested, key=lambda index: findings[index].p)):
        holds = holds and findings[index].p <= LEVEL / (len(tested) - rank)
        if not holds:
            verdicts[index] = Verdict.INCONCLUSIVE
    return verdicts
