"""PTQ-AttnDM's schedule: effective_bits(t) = b + 2 sigmoid(importance(t)), rounded to widths that exist.

The source defines neither the importance nor the rounding. Both are named here.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from noise_models.inference.pooling import Array
from noise_models.precision.candidates import Candidates
from noise_models.precision.gains import require_gains
from noise_models.precision.policy import Policy
from samplers.errors import BadInput
from samplers.validation import require_choice, require_int

SPAN = 2.0
"""Bits between the least and the greatest effective width."""

ROUNDINGS = ("floor", "nearest", "ceil", "stochastic", "budget")

IMPORTANCES = ("one-step", "log-one-step", "injected", "noise-to-signal", "final")
"""z-scores over t of the injected error power P(t): ``one-step``, the default, P(t) lambda_t^2 with lambda_t = b_t
(k = 0); ``log-one-step``, its logarithm, since a few steps may rule it; ``injected``, P(t) itself; ``noise-to-signal``,
P(t) over the power of epsilon; ``final``, P(t) g_t with given gains."""


def importance(table: xr.Dataset, base: int, kind: str = "one-step", gains: ArrayLike | None = None) -> Array:
    """Importance of each step: a z-score over the steps (population deviation).

    Args:
        table: of ``candidate_table``, without groups.
        base: index of the candidate whose injected noise is meant.
        kind: of ``IMPORTANCES``.
        gains: (step,), for ``final``.

    Raises:
        BadInput: an unknown kind, gains that are missing or break their rule, or a quantity that does not vary over the
            steps or is not finite.
    """
    require_choice("importance", kind, IMPORTANCES)
    if kind == "final" and gains is None:
        raise BadInput("the final importance needs gains", got="none", fix="pass gains=, or use one-step")
    with np.errstate(divide="ignore"):
        weighted = _weighted(table, table["noise_power"].to_numpy()[:, 0, base], kind, gains)
    if not np.isfinite(weighted).all():
        raise BadInput("the importance must be finite", got=weighted, fix='use "one-step"; a step may have no noise')
    deviation = weighted.std()
    if not deviation > 1e-12 * np.abs(weighted).max():
        raise BadInput(
            f"the {kind} importance must vary over the steps", got=f"{len(weighted)} equal values", fix="use another"
        )
    return (weighted - weighted.mean()) / deviation


def _weighted(table: xr.Dataset, power: Array, kind: str, gains: ArrayLike | None) -> Array:
    if kind == "injected":
        return power
    if kind == "final":
        return power * require_gains(gains, table)
    if kind == "noise-to-signal":
        return power / table["signal_power"].to_numpy()
    one_step = power * table["b"].to_numpy() ** 2
    return np.log(one_step) if kind == "log-one-step" else one_step


def effective_bits(base_bits: float, scores: ArrayLike) -> Array:
    """b + 2 sigmoid(importance), between b and b + 2, and b + 1 where the importance is 0."""
    return base_bits + SPAN * expit(np.asarray(scores, np.float64))


def round_bits(
    effective: ArrayLike,
    widths: ArrayLike,
    rounding: str,
    *,
    seed: int = 0,
    cost: ArrayLike | None = None,
    budget: int | None = None,
) -> NDArray[np.int64]:
    """Effective bits to widths that exist, as indices into ``widths``.

    With lower and upper the neighbours of a value among the widths (both the value itself where it is one) and the
    fraction f = (value - lower) / (upper - lower):

    - ``floor``, ``ceil``: lower, upper.
    - ``nearest``: upper where f >= 1/2.
    - ``stochastic``: upper with probability f, by systematic sampling from one uniform u of ``seed``: step t is raised
      where floor(F_t + u) > floor(F_{t-1} + u), F being the running sum of f. The number of raised steps then is the
      sum of f rounded down or up, so that the mean width holds to the budget that the effective bits name.
    - ``budget``: all lower, then raised in order of f, largest first, equal ones in order of steps, as long as the
      total cost stays within ``budget``; the first that does not fit ends it.

    Args:
        effective: (step,).
        widths: different integers, in any order.
        rounding: of ``ROUNDINGS``.
        seed: of ``stochastic``.
        cost: (width,) of a step at each width, for ``budget``.
        budget: of all steps.

    Raises:
        BadInput: an unknown rule, a value beyond the widths on a side that the rule needs, a budget that is missing or
            below the cost of the lower widths.
    """
    require_choice("rounding", rounding, ROUNDINGS)
    values, widths = np.asarray(effective, np.float64), np.asarray(widths)
    order = np.argsort(widths)
    ranked = widths[order].astype(np.float64)
    above = np.searchsorted(ranked, values, side="left")
    below = np.searchsorted(ranked, values, side="right") - 1
    needs_lower, needs_upper = rounding != "ceil", rounding != "floor"
    if (needs_lower and (below < 0).any()) or (needs_upper and (above == len(ranked)).any()):
        raise BadInput(
            f"{rounding} needs widths on its side of every effective width, {values.min():.3g} to {values.max():.3g}",
            got=sorted(widths.tolist()),
            fix="add candidates, or change the base width or the rounding",
        )
    if not needs_upper:
        return order[below]
    if not needs_lower:
        return order[above]
    gap = ranked[above] - ranked[below]
    fraction = np.divide(values - ranked[below], gap, out=np.zeros_like(values), where=gap > 0)
    if rounding == "nearest":
        raised = fraction >= 0.5
    elif rounding == "stochastic":
        running = np.cumsum(fraction) + np.random.default_rng(require_int("seed", seed, 0)).uniform()
        raised = np.diff(np.floor(running), prepend=0.0) > 0
    else:
        raised = _raised_within(fraction, order[below], order[above], cost, budget)
    return np.where(raised, order[above], order[below])


def _raised_within(
    fraction: Array, lower: NDArray[np.int64], upper: NDArray[np.int64], cost: ArrayLike | None, budget: int | None
) -> NDArray[np.bool_]:
    if cost is None or budget is None:
        raise BadInput('rounding "budget" needs a budget and the costs', got=f"budget {budget}", fix="pass both")
    prices = np.asarray(cost)
    least = int(prices[lower].sum())
    if budget < least:
        raise BadInput(f"the budget must allow the lower widths, which cost {least}", got=budget, fix="raise it")
    raised = np.zeros(len(fraction), bool)
    spent = least
    for step in np.argsort(-fraction, kind="stable"):
        spent += int(prices[upper[step]] - prices[lower[step]])
        if spent > budget or fraction[step] == 0:
            break
        raised[step] = True
    return raised


def sigmoid_policy(
    candidates: Candidates,
    table: xr.Dataset,
    *,
    base_bits: int | None = None,
    kind: str = "one-step",
    gains: ArrayLike | None = None,
    scores: ArrayLike | None = None,
    rounding: str = "nearest",
    seed: int = 0,
    budget: int | None = None,
    name: str | None = None,
) -> Policy:
    """Effective bits b + 2 sigmoid(importance), rounded to the candidates' activation widths.

    Args:
        candidates: what is chosen from; of different activation widths, without groups.
        table: of ``candidate_table``.
        base_bits: b, the width of a candidate; the least of them by default.
        kind: which importance, of ``IMPORTANCES``, from the noise at b.
        gains: (step,), for the importance ``final``.
        scores: an importance of your own, (step,), instead.
        rounding: of ``ROUNDINGS``; see :func:`round_bits`.
        seed: of the stochastic rounding.
        budget: bit operations per sample over all steps, for ``rounding="budget"``.
        name: of the policy.

    Returns:
        A policy whose details hold ``importance`` and ``effective_bits`` (step,).

    Raises:
        BadInput: groups, equal widths, a base that is no candidate's, or as :func:`importance` and :func:`round_bits`.
    """
    bits = candidates.activation_bits
    if candidates.groups or len(set(bits.tolist())) < len(bits):
        raise BadInput(
            "the sigmoid rule chooses among different activation widths of the whole network",
            got=", ".join(candidates.names),
            fix="name candidates such as w8a4, w8a5, w8a6, without groups",
        )
    base = int(bits.min()) if base_bits is None else require_int("base_bits", base_bits, 2)
    if base not in bits:
        raise BadInput("base_bits must be a candidate's activation width", got=base, fix=f"one of {sorted(bits)}")
    if scores is None:
        z = importance(table, int(np.flatnonzero(bits == base)[0]), kind, gains)
    else:
        z, kind = np.asarray(scores, np.float64), "given"
        if z.shape != (table.sizes["step"],) or not np.isfinite(z).all():
            raise BadInput("scores must be finite, one for each step", got=z.shape, fix="pass (step,)")
    wanted = effective_bits(base, z)
    choice = round_bits(wanted, bits, rounding, seed=seed, cost=table["bops"].to_numpy()[0], budget=budget)
    rule = {
        "rule": "sigmoid", "base_bits": base, "importance": kind, "rounding": rounding,
        "seed": seed if rounding == "stochastic" else None, "budget": budget,
    }  # fmt: skip
    details = xr.Dataset(
        {
            "importance": (("step",), z, {"units": "1", "long_name": f"importance of a step, {kind}"}),
            "effective_bits": (("step",), wanted, {"units": "bit", "long_name": "effective bits before rounding"}),
        }
    )
    return Policy(name or f"sigmoid-{rounding}", candidates, choice[:, None], table, rule, details)
