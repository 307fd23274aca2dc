"""The budgeted optimum: least predicted noise of the final sample for a number of bit operations."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from noise_models.precision.candidates import Candidates
from noise_models.precision.gains import require_gains
from noise_models.precision.policy import Policy, per_part, step_parts
from noise_models.precision.selection import exact_selection, greedy_selection
from samplers.errors import BadInput
from samplers.validation import require_choice, require_int

METHODS = {"exact": exact_selection, "greedy": greedy_selection}


def budgeted_policy(
    candidates: Candidates,
    table: xr.Dataset,
    budget: int,
    gains: ArrayLike,
    *,
    method: str = "exact",
    parts: int | None = None,
    name: str | None = None,
) -> Policy:
    """Minimise sum_t g_t P_b(t)(t) under sum_t BOPs(b(t)) <= budget.

    P_b(t) is the injected noise power of candidate b at step t, g_t a gain. With groups the sum runs over them as well.
    The prediction takes noise of different steps and groups as uncorrelated. Bits are chosen for the noise of the
    calibration samples, so that the predicted noise is low by the usual optimism of a minimum.

    Args:
        candidates: what is chosen from, of any widths.
        table: of ``candidate_table``.
        budget: bit operations per sample over all steps. One above the dearest candidate's does not bind.
        gains: (step,): of a propagation model, or of ``gains.py``.
        method: ``exact`` (dynamic programming) or ``greedy`` (lower convex hull); see ``selection.py``.
        parts: choose once for each of so many consecutive ranges of steps.
        name: of the policy.

    Returns:
        A policy whose details hold ``gain`` (step,), and as scalars ``predicted_noise_power``, ``lower_bound`` (no
        policy has less) and ``budget``.

    Raises:
        BadInput: a budget below the cheapest policy, gains or parts that break their rule, too many states.
    """
    require_choice("method", method, tuple(METHODS))
    require_int("budget", budget, 0)
    gain = require_gains(gains, table)
    part = step_parts(table.sizes["step"], parts)
    noise = per_part(gain[:, None, None] * table["noise_power"].to_numpy(), part)
    lengths = np.bincount(part)
    cost = lengths[:, None, None] * table["bops"].to_numpy()
    if budget < (least := int(cost.min(-1).sum())):
        raise BadInput(
            f"the budget must allow the cheapest policy, which costs {least}", got=budget,
            fix="raise it, or add a cheaper candidate",
        )  # fmt: skip
    unit = math.gcd(*cost.reshape(-1).tolist()) or 1  # smaller integers, the same problem
    choices = cost.shape[-1]
    found = METHODS[method](noise.reshape(-1, choices), (cost // unit).reshape(-1, choices), budget // unit)
    choice = found.choice.reshape(noise.shape[:2])[part]
    named = gains.attrs.get("gains", "given") if isinstance(gains, xr.DataArray) else "given"
    rule = {
        "rule": "budget", "method": method, "budget": budget, "gains": named, "gain": gain.tolist(), "parts": parts,
    }  # fmt: skip
    details = xr.Dataset(
        {
            "gain": (("step",), gain, {"units": "1", "long_name": f"gain of injected noise, {named}"}),
            "predicted_noise_power": ((), found.noise, {"units": "1", "long_name": "predicted final noise power"}),
            "lower_bound": ((), found.lower_bound, {"units": "1", "long_name": "least predicted power of any policy"}),
            "budget": ((), budget, {"units": "1", "long_name": "bit operations allowed per sample"}),
        }
    )
    return Policy(name or f"{method}-budget", candidates, choice, table, rule, details)
