"""PTQD's rule (He et al., NeurIPS 2023): the least activation width whose noise stays below the diffusion's own."""

from __future__ import annotations

import numpy as np
import xarray as xr

from noise_models.conversions import READINGS, ptqd_threshold_db
from noise_models.precision.candidates import Candidates
from noise_models.precision.measurement import DIMS
from noise_models.precision.policy import Policy, step_parts
from samplers.errors import BadInput
from samplers.validation import require_choice, require_real

BOUNDS = {"estimate": "sqnr_db", "low": "sqnr_db_low"}
"""What is compared with the threshold: the SQNR itself, as published, or the lower end of its interval."""

VERDICTS = ("insufficient", "inconclusive", "sufficient")


def ptqd_policy(
    candidates: Candidates,
    table: xr.Dataset,
    *,
    reading: str = "power",
    margin_db: float = 0.0,
    parts: int | None = None,
    bound: str = "estimate",
    name: str | None = None,
) -> Policy:
    """At each step the smallest activation width b with SNR^Q_b(t) > SNR^F(t), the largest where none has.

    SNR^Q_b(t) = norm(epsilon) / norm(quantized epsilon - epsilon) at the same x_t, SNR^F(t) = abar / (1 - abar). They
    are compared in dB, sqnr_db > threshold_db, where the threshold is ``conversions.ptqd_threshold_db`` (``reading``
    says whether SNR^F is read as a ratio of powers or, as printed, against a ratio of amplitudes) plus ``margin_db``.
    Weight bits stay fixed. With groups the SQNR is that of the group's own noise, all other sites in float.

    What this is not: the split that the paper prints. Its switch steps follow from neither reading of its rule with any
    one margin, and no code of it was released, so that reading, margin and granularity are parameters here.

    Args:
        candidates: what is chosen from; of one weight width and different activation widths.
        table: of ``candidate_table``.
        reading: ``power`` or ``amplitude``.
        margin_db: added to the threshold; positive asks for less noise.
        parts: choose once for each of so many consecutive ranges of steps: a width must suffice at every step of the
            range. None chooses at each step.
        bound: ``estimate``, or ``low`` for the lower end of the SQNR's interval, which then must be defined.
        name: of the policy.

    Returns:
        A policy whose details hold ``threshold_db`` (step,) and ``verdict`` (step, group, candidate): whether the
        candidate's whole interval lies above the threshold (sufficient) or below (insufficient), or neither.

    Raises:
        BadInput: candidates of several weight widths or of equal activation widths, a parameter that breaks its rule,
            an SQNR that is not defined.
    """
    require_choice("reading", reading, READINGS)
    require_choice("bound", bound, tuple(BOUNDS))
    margin = require_real("margin_db", margin_db)
    bits = candidates.activation_bits
    if len(set(candidates.weight_bits.tolist())) > 1 or len(set(bits.tolist())) < len(bits):
        raise BadInput(
            "PTQD's rule chooses among activation widths at one weight width",
            got=", ".join(candidates.names),
            fix="name candidates such as w4a4, w4a6, w4a8, or use budgeted_policy",
        )
    part = step_parts(table.sizes["step"], parts)
    threshold = ptqd_threshold_db(table["alpha_cumprod"].to_numpy(), reading) + margin
    compared = table[BOUNDS[bound]].to_numpy()
    if np.isnan(compared).any():
        step, group, index = np.argwhere(np.isnan(compared))[0]
        raise BadInput(
            "the SQNR that is compared must be defined",
            got=f"NaN for {candidates.names[index]} at step {step}, group {candidates.group_names[group]}",
            fix="measure on more samples, or leave out a candidate without signal or noise",
        )
    enough = compared > threshold[:, None, None]
    enough = np.stack([enough[part == p].all(0) for p in part])  # (step, group, candidate)
    order = np.argsort(bits)
    ranked = enough[..., order]
    first = np.where(ranked.any(-1), ranked.argmax(-1), len(order) - 1)
    rule = {"rule": "ptqd", "reading": reading, "margin_db": margin, "parts": parts, "bound": bound}
    return Policy(
        name or _name(reading, margin, parts), candidates, order[first], table, rule, _details(table, threshold)
    )


def _name(reading: str, margin: float, parts: int | None) -> str:
    return f"ptqd-{reading}" + (f"{margin:+g}db" if margin else "") + (f"-{parts}parts" if parts else "")


def _details(table: xr.Dataset, threshold: np.ndarray) -> xr.Dataset:
    level = threshold[:, None, None]
    low, high = table["sqnr_db_low"].to_numpy(), table["sqnr_db_high"].to_numpy()
    known = np.where(low > level, 2, np.where(high < level, 0, 1))
    infinite = np.isposinf(table["sqnr_db"].to_numpy())  # no noise at all: sufficient without an interval
    attrs = {
        "units": "1", "long_name": "whether a width suffices, by its interval",
        "flag_values": np.arange(len(VERDICTS), dtype=np.int8), "flag_meanings": " ".join(VERDICTS),
    }  # fmt: skip
    return xr.Dataset(
        {
            "threshold_db": (("step",), threshold, {"units": "dB", "long_name": "SNR^F with its margin, as sqnr_db"}),
            "verdict": (DIMS, np.where(infinite, 2, known).astype(np.int8), attrs),
        }
    )
