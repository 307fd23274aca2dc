"""What a correction changes, by runs on the same samples with and without it: paired differences with intervals.

Both runs share every noise, so the change is far better known than either number: the block jackknife deletes a block
of samples from both at once. Verdicts follow from the interval alone, and "inconclusive" is one of them. Intervals
are per step: of fifty steps without any change, two or three fall outside.
"""

from __future__ import annotations

import json

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from noise_models.correction.scope import require_equal
from noise_models.decomposition.split import decompose
from noise_models.inference.intervals import LOG, Interval, jackknife
from noise_models.inference.labelled import channel_dims, interval_variables, meaning, recorded, result_dataset
from noise_models.inference.pooling import Array, BlockSums, Pooled, block_sums
from noise_models.inference.verdicts import verdict_variable
from samplers.errors import BadInput

VERDICTS = ("undefined", "falls", "rises", "inconclusive")
ENDPOINTS = ("not_expected", "met", "missed", "inconclusive")


def paired_change(
    before: xr.Dataset, after: xr.Dataset, variable: str = "epsilon_injected", *, confidence: float = 0.95
) -> xr.Dataset:
    """Mean squared error of a recorded variable without and with a correction, and the change in dB.

    Full precision is the same in both runs, so the change of the SQNR is the change in dB with the other sign.

    Args:
        before: a run without the correction.
        after: the run with it, of the same configuration otherwise.
        variable: moments per block: ``epsilon_injected``, ``epsilon_accumulated``, ``state_accumulated`` (whose last
            step is the final sample) or ``decoded_accumulated``.
        confidence: nominal coverage.

    Returns:
        ``mse_before``, ``mse_after``, ``mse_change_db`` = 10 log10(after / before) and ``sqnr_change_db``, each with
        its interval, and ``verdict`` on the error (flags ``VERDICTS``), over (step,), or none after decoding.

    Raises:
        BadInput: the runs differ in more than the correction, or ``variable`` was not recorded.
    """
    require_paired(before, after)
    sums = [_pooled(run, variable) for run in (before, after)]
    change = jackknife(_change_db, *sums, confidence=confidence)
    mirrored = Interval(-change.estimate, change.standard_error, -change.high, -change.low, change.reason)
    what = meaning(variable)
    data: dict[str, xr.Variable] = {}
    for name, found, unit, long_name, definition, scale in (
        ("mse_before", jackknife(_power, sums[0], scale=LOG, confidence=confidence), "1",
         "squared error without the correction", "mean of e^2", "logarithmic"),
        ("mse_after", jackknife(_power, sums[1], scale=LOG, confidence=confidence), "1",
         "squared error with the correction", "mean of e^2", "logarithmic"),
        ("mse_change_db", change, "dB", "change of squared error", "10 log10(after / before), paired", "dB"),
        ("sqnr_change_db", mirrored, "dB", "change of SQNR", "10 log10(before / after), paired", "dB"),
    ):  # fmt: skip
        data |= interval_variables(
            name, found, sums[0].dims, unit=unit, long_name=long_name, definition=f"{definition}; {what}",
            confidence=confidence, scale=scale,
        )  # fmt: skip
    data["verdict"] = verdict_variable(
        sums[0].dims, verdict(change), VERDICTS, "verdict on the change of squared error"
    )
    return named(result_dataset(after, variable, data), after)


def injected_endpoint(
    calibration: xr.Dataset, before: xr.Dataset, after: xr.Dataset, *, confidence: float = 0.95
) -> xr.Dataset:
    """The endpoint of a correction of epsilon, fixed beforehand: injected error on held-out samples falls.

    It should wherever the fitted slope and bias differ from 0 by more than their intervals: where the slope's interval
    leaves 0 out (lies above it for PTQD, whose fit sets a negative slope to 0), and the bias' of some channel does too.
    There the endpoint is met if the change is below 0 by its interval, missed if above. ``endpoint_either`` asks where
    either of the two differs.

    Args:
        calibration: the run that the correction was fitted on.
        before: a run of other samples without the correction.
        after: the same run with it.
        confidence: nominal coverage of every interval.

    Returns:
        :func:`paired_change` of ``epsilon_injected`` with ``slope_differs``, ``bias_differs``, ``endpoint`` and
        ``endpoint_either`` (flags ``ENDPOINTS``) over (step,).

    Raises:
        BadInput: see :func:`paired_change`; or calibration and evaluation share their samples, or the correction was
            fitted on another run.
    """
    fitted, used = (json.loads(run.attrs["config"]) for run in (calibration, after))
    if (fitted["purpose"], fitted["seed"]) == (used["purpose"], used["seed"]):
        raise BadInput("an endpoint is judged on held-out samples", got="those of the fit", fix="evaluate on others")
    correction = used["correction"]
    while "correction" in correction:  # one around another, which was fitted
        correction = correction["correction"]
    if "fit" in correction:
        require_equal(correction["fit"], fitted, "an endpoint is judged by the run that the correction was fitted on")
    result = paired_change(before, after, "epsilon_injected", confidence=confidence)
    split = decompose(calibration, "epsilon_injected", confidence=confidence)
    positive = correction["name"].startswith("ptqd") and not correction.get("signed", False)
    slope = ((split.slope_low > 0) | ((split.slope_high < 0) & (not positive))).to_numpy()
    bias = ((split.bias_low > 0) | (split.bias_high < 0)).any("channel").to_numpy()
    found = result["verdict"].to_numpy()
    facts = {
        "slope_differs": (
            slope,
            "whether the fitted slope is not 0",
            "its interval leaves 0 out, or lies above 0 for PTQD",
        ),
        "bias_differs": (bias, "whether a fitted bias is not 0", "the interval of some channel leaves 0 out"),
    }
    for name, (values, long_name, definition) in facts.items():
        result[name] = xr.Variable(("step",), values, {"long_name": long_name, "definition": definition})
    for name, expected in (("endpoint", slope & bias), ("endpoint_either", slope | bias)):
        codes = np.select([~expected, found == 1, found == 2], [0, 1, 2], 3).astype(np.int8)
        result[name] = verdict_variable(("step",), codes, ENDPOINTS, "endpoint of the correction: injected error falls")
    return result


def require_paired(before: xr.Dataset, after: xr.Dataset) -> None:
    """Refuse runs that differ in more than their correction.

    Raises:
        BadInput: naming the first field that differs.
    """
    one, other = (json.loads(run.attrs["config"]) for run in (before, after))
    for field in sorted({*one, *other} - {"correction"}):
        if one.get(field) != other.get(field):
            raise BadInput(
                "paired runs differ in their correction alone",
                got=f"{field} {one.get(field)!r} and {other.get(field)!r}",
                fix="make them in one run_arms",
            )


def verdict(change: Interval) -> NDArray[np.int8]:
    """1 where the whole interval lies below 0, 2 where above, 3 where it holds 0, 0 where there is none."""
    return np.select([change.reason != 0, change.high < 0, change.low > 0], [0, 1, 2], 3).astype(np.int8)


def named(result: xr.Dataset, run: xr.Dataset) -> xr.Dataset:
    """With the correction's name, so that results can be put side by side."""
    return result.assign_coords(correction=run.correction)


def _pooled(run: xr.Dataset, variable: str) -> BlockSums:
    moments, count = recorded(run, variable)
    return block_sums(moments, count, channel_dims(moments))


def _power(pooled: Pooled) -> Array:
    return pooled.power_e


def _change_db(before: Pooled, after: Pooled) -> Array:
    return 10 * (np.log10(after.power_e) - np.log10(before.power_e))
