"""Noise of a contraction predicted from its operands' ranges and bits.

For y = sum_i a_i b_i with errors of the operands that depend on nothing, each of power step^2 / 12,

    E[e^2] = sum_i step_a^2 / 12 b_i^2 + sum_i step_b^2 / 12 a_i^2 + sum_i step_a^2 step_b^2 / 144,

averaged over outputs, and the squared distances of clipped elements beside it. ``simulator.observe_operands`` gives
these sums for linear layers, convolutions of any geometry and products of two run-time operands.

Four further predictors tell why this fails. ``steps`` leaves clipping out; ``operands`` puts the operands' true error
powers in the place of step^2 / 12; ``lines`` also takes the straight-line part of each error as what it is, a signal
that adds up in amplitude: where most elements round to 0 the error is minus the operand, and so is the output's;
``weights`` also takes the errors of a weight as they are, one draw that no further sample averages over.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from samplers.errors import BadInput
from samplers.validation import require_int, require_real
from simulator.operand_variables import OPERANDS

PREDICTORS = ("uniform", "steps", "operands", "lines", "weights")
PARTS = ("left", "right", "both", "clipped")
"""Parts of ``uniform``: rounding of one operand, of both at once, and clipping."""
REASONS = ("defined", "in_float", "other_arithmetic", "no_signal", "no_noise", "all_clipped")
"""Why a prediction is NaN, by code."""


def contraction_noise(
    taps: int, *, left_step: float, left_power: float, right_step: float, right_power: float
) -> float:
    """Noise power of one output: taps (step_a^2 / 12 E[b^2] + step_b^2 / 12 E[a^2] + step_a^2 step_b^2 / 144).

    Args:
        taps: products per output.
        left_step: distance of two codes of a; 0 for an exact operand.
        left_power: E[a^2].
        right_step: of b.
        right_power: E[b^2].

    Raises:
        BadInput: fewer than 1 tap, or a negative step or power.
    """
    require_int("taps", taps, 1)
    given = {"left_step": left_step, "left_power": left_power, "right_step": right_step, "right_power": right_power}
    for name, value in given.items():
        if require_real(name, value) < 0:
            raise BadInput(f"{name} must be at least 0", got=value, fix="pass a step or a mean square")
    left, right = left_step**2 / 12, right_step**2 / 12
    return taps * (left * right_power + right * left_power + left * right)


def predict_layers(observed: xr.Dataset, *, bits: xr.DataArray | None = None) -> xr.Dataset:
    """Noise power and SQNR of every site's output.

    Args:
        observed: variables of ``simulator.operand_variables``, over (step, site, operand).
        bits: instead of the observed scheme's, over some of (step, site, operand); the ranges stay, so steps change by
            the ratio of intervals. Only ``uniform`` and ``steps`` follow from ranges, so only they are returned.

    Returns:
        ``noise_power`` and ``sqnr_db`` over (predictor, step, site); ``noise_part`` (part, step, site) of ``uniform``;
        ``reason`` (step, site), CF flags of ``REASONS``: NaN where operand rounding is not all that happens, where
        there is no signal or no noise, and where every element of an operand is clipped.

    Raises:
        BadInput: a variable is missing, or bits below 1 (2 for weights) or above 16.
    """
    missing = [variable.name for variable in OPERANDS if variable.name not in observed]
    if missing:
        raise BadInput("a prediction needs observed operands", got=f"none of {missing}", fix="use observe_operands")
    squeeze = xr.ones_like(observed["operand_intervals"])
    if bits is not None:
        squeeze = _squeeze(observed["operand_intervals"], bits)
    rounding = observed["operand_step_gain"] * squeeze / 12
    clipping = observed["operand_clip_gain"].sum("operand", skipna=False)
    both = observed["site_step_product"] * squeeze.prod("operand", skipna=False) / 144
    parts = {
        "left": rounding.sel(operand="left", drop=True), "right": rounding.sel(operand="right", drop=True),
        "both": both, "clipped": clipping,
    }  # fmt: skip
    steps = parts["left"] + parts["right"] + both
    noise = {"uniform": steps + clipping, "steps": steps}
    if bits is None:
        for name, kind in (("operands", "error"), ("lines", "rest")):
            alone = observed[f"operand_{kind}_gain"].sum("operand", skipna=False)
            noise[name] = alone + observed[f"site_{kind}_product"]
        noise["lines"] = noise["lines"] + observed["site_line_power"]
        noise["weights"] = observed["site_drawn_noise"]
    power = _stacked(noise, "predictor")
    signal = observed["site_signal_power"]
    reason = _reason(observed, signal, noise["uniform"])
    power = power.where((reason == 0) | (reason == REASONS.index("no_noise")))
    db = power_ratio_db(signal, power).where(reason == 0).transpose("predictor", "step", "site")
    flags = {"units": "1", "long_name": "why a prediction is undefined", "flag_meanings": " ".join(REASONS)}
    power.attrs = {"units": "1", "long_name": "predicted noise power", "definition": "mean of e^2 per output element"}
    db.attrs = {"units": "dB", "long_name": "predicted SQNR", "definition": "10 log10(site_signal_power / noise_power)"}
    part = _stacked(parts, "part")
    part.attrs = {
        "units": "1",
        "long_name": "part of the uniform prediction",
        "definition": "see noise_models/theory/layers.py",
    }
    data = {
        "noise_power": power, "sqnr_db": db, "noise_part": part, "site_signal_power": signal,
        "operand_clipped_share": observed["operand_clipped_share"],
        "reason": reason.assign_attrs(flags | {"flag_values": np.arange(len(REASONS), dtype=np.int8)}),
    }  # fmt: skip
    attrs = {name: observed.attrs[name] for name in ("config", "key") if name in observed.attrs}
    return xr.Dataset(data, attrs=attrs)


def power_ratio_db(signal: xr.DataArray, noise: xr.DataArray) -> xr.DataArray:
    """10 log10(signal / noise): infinite without one of them, NaN without either."""

    def db(y: np.ndarray, e: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return 10 * (np.log10(y) - np.log10(e))

    return xr.apply_ufunc(db, signal, noise)


def _squeeze(intervals: xr.DataArray, bits: xr.DataArray) -> xr.DataArray:
    """(old intervals / new intervals)^2; an even number of intervals is a narrow signed format's."""
    narrow = intervals % 2 == 0
    least, values = np.where(narrow.values.any(), 2, 1), np.asarray(bits.values)
    if values.dtype.kind not in "iu" or values.min() < 1 or values.max() > 16:
        raise BadInput("bits must be integers from 1 to 16", got=bits.values.tolist(), fix="choose widths in 1..16")
    new = 2.0**bits - 1 - narrow
    if not (new.where(intervals.notnull() & (intervals > 0), 1) > 0).all():
        raise BadInput(f"a narrow signed format needs at least {least} bits", got=int(values.min()), fix="use 2")
    return (intervals / new) ** 2


def _stacked(named: dict[str, xr.DataArray], dim: str) -> xr.DataArray:
    together = xr.concat([values.reset_coords(drop=True) for values in named.values()], dim)
    return together.assign_coords({dim: list(named)}).transpose(dim, "step", "site")


def _reason(observed: xr.Dataset, signal: xr.DataArray, noise: xr.DataArray) -> xr.DataArray:
    reason = observed["site_covered"].astype(np.int8)  # its codes are the first of REASONS
    covered = reason == 0
    clipped = (observed["operand_clipped_share"] >= 1 - 1e-12).any("operand")
    for name, holds in (("no_noise", noise == 0), ("no_signal", signal == 0), ("all_clipped", clipped)):
        reason = xr.where(covered & holds, np.int8(REASONS.index(name)), reason)
    return reason.astype(np.int8)
