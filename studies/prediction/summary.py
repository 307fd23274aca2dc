"""What a cell's sampled powers say: measured and predicted SQNR with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from noise_models.inference.intervals import Interval
from noise_models.inference.labelled import interval_variables
from studies.prediction.certainty import Powers, change_db, ratio_db

DEFINITION = "10 log10(sum y^2 / sum e^2) of the final sample, pooled"
TERMS = ("reference", "error")
"""Of a power: mean square of the final sample in full precision, and of its error."""


def powers_of(values: xr.DataArray) -> Powers:
    """(2, sample) of one scheme, without the samples that it did not take."""
    found = values.transpose("term", ...).values
    return np.asarray(found[:, np.isfinite(found[0])])


def padded(powers: Sequence[Powers]) -> np.ndarray:
    """(row, term, sample), NaN where a row took fewer samples than another."""
    most = max(each.shape[1] for each in powers)
    return np.stack([np.pad(each, ((0, 0), (0, most - each.shape[1])), constant_values=np.nan) for each in powers])


def summarise(cell: xr.Dataset) -> xr.Dataset:
    """SQNR of a cell's samples.

    The first predictor's powers are of all its samples. The others are made on a few of these: each is the first one's
    prediction plus the paired change on the few.

    Returns:
        ``measured_sqnr_db`` (scheme) and ``predicted_sqnr_db`` (predictor, scheme), each with standard error, ends and
        reason; naive predictors, which are the last rows, have none. ``measured_samples`` and ``prediction_samples``
        (scheme) say how many each scheme took.
    """
    schemes = range(cell.sizes["scheme"])
    measured = [powers_of(cell.measured_power[i]) for i in schemes]
    first = [powers_of(cell.predicted_power[0, i]) for i in schemes]
    rows = [[ratio_db(powers) for powers in first]]
    for predictor in range(1, cell.sizes["predictor"]):
        few = [powers_of(cell.predicted_power[predictor, i]) for i in schemes]
        rows.append(
            [
                _sum(all_, change_db(powers, paired[:, : powers.shape[1]]))
                for all_, powers, paired in zip(rows[0], few, first, strict=True)
            ]
        )
    naive = cell.naive_sqnr_db.values
    unknown = np.full_like(naive, np.nan)
    rest = Interval(naive, unknown, unknown, unknown, np.zeros(naive.shape, np.int8))
    predicted = Interval(
        *(np.concatenate([np.array([[one[part] for one in row] for row in rows]), rest[part]]) for part in range(5))
    )
    common: dict[str, Any] = {"unit": "dB", "definition": DEFINITION, "confidence": 0.95, "scale": "dB"}
    data = interval_variables(
        "measured_sqnr_db", _joined([ratio_db(powers) for powers in measured]), ("scheme",),
        long_name="measured SQNR", **common,
    )  # fmt: skip
    data |= interval_variables(
        "predicted_sqnr_db", predicted, ("all_predictors", "scheme"), long_name="predicted SQNR", **common
    )
    for name, powers, what in (("measured", measured, "measured"), ("prediction", first, "predicted")):
        counts = [each.shape[1] for each in powers]
        data[f"{name}_samples"] = xr.Variable(
            ("scheme",), counts, {"units": "1", "long_name": f"samples behind the {what} SQNR"}
        )
    coords = {name: cell[name] for name in ("scheme", "model", "sampler", "steps")}
    names = [*cell.predictor.values, *cell.naive.values]
    return xr.Dataset(data, coords).rename(all_predictors="predictor").assign_coords(predictor=names)


def _sum(one: Interval, change: Interval) -> Interval:
    """Of two estimates that are taken as independent: the change is of few of the samples."""
    estimate, error = one.estimate + change.estimate, np.hypot(one.standard_error, change.standard_error)
    arm = np.hypot(one.high - one.estimate, change.high - change.estimate)
    return Interval(estimate, error, estimate - arm, estimate + arm, np.maximum(one.reason, change.reason))


def _joined(intervals: Sequence[Interval]) -> Interval:
    """One interval of arrays from intervals of scalars."""
    return Interval(*(np.array([one[part] for one in intervals]) for part in range(5)))
