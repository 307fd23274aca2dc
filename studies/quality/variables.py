"""Every variable of a quality dataset, named once: dimensions, unit, long name, definition.

Dimensions: ``sample_set`` (what was drawn, or held-out images), ``reference`` (what it is compared with: real images,
or full precision on other noise), ``part_count`` (parts that samples are cut into). A difference is that set minus
full precision on the same noise, against the same reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from noise_models.inference.intervals import Interval
from simulator.variable import Variable
from studies.quality.reasons import Reason, flag_attrs

PAIR = ("sample_set", "reference")
SET = ("sample_set",)

_FRECHET = (
    "|m_a - m_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2) of Gaussians fitted to equally many samples; biased upwards by "
    "about slope / samples"
)
_INFINITE = (
    "intercept of the least-squares line of the Frechet distance over 1/samples, in disjoint parts of both sets "
    "(after Chong and Forsyth 2020, who vary one set)"
)
_KID = "unbiased squared maximum mean discrepancy with kernel (a.b/d + 1)^3, mean over 10 disjoint blocks"
_IS = "exp of the mean of KL(p(y|x) || p(y)), p(y) the mean posterior, over all samples at once"
_JACKKNIFE = "delete-one-group jackknife, 20 groups, Student's t"
_SQUARED = "squared units of the features"

VARIABLES = (
    Variable("samples", SET, "1", "samples", "samples in the set"),
    Variable("clipped_share", SET, "1", "clipped pixels", "share of pixels outside [-1, 1], clipped before features"),
    Variable("frechet", PAIR, _SQUARED, "Frechet distance", f"of pooled features; {_FRECHET}"),
    Variable("frechet_samples", PAIR, "1", "samples of either set", "behind frechet and spatial_frechet"),
    Variable("frechet_slope", PAIR, _SQUARED, "bias times samples", "slope of the line behind frechet_infinite"),
    Variable(
        "frechet_at_floor", PAIR, _SQUARED, "Frechet distance at the floor's size",
        "mean over parts of as many samples as the held-out images",
    ),
    Variable(
        "frechet_by_part", (*PAIR, "part_count"), _SQUARED, "Frechet distance in parts",
        "mean over part_count disjoint parts of both sets",
    ),
    Variable(
        "inverse_part_size", (*PAIR, "part_count"), "1", "1 / samples of a part", "mean over the parts; the abscissa"
    ),
    Variable("frechet_infinite", PAIR, _SQUARED, "Frechet distance of infinitely many samples", _INFINITE),
    Variable("frechet_difference", PAIR, _SQUARED, "difference of Frechet distances", "biases cancel in part"),
    Variable(
        "frechet_infinite_difference", PAIR, _SQUARED, "difference of Frechet distances, infinitely many samples",
        f"of frechet_infinite, paired; {_INFINITE}",
    ),
    Variable("spatial_frechet", PAIR, _SQUARED, "spatial Frechet distance (sFID)", f"of spatial features; {_FRECHET}"),
    Variable(
        "spatial_frechet_infinite", PAIR, _SQUARED, "spatial Frechet distance of infinitely many samples", _INFINITE
    ),
    Variable(
        "spatial_frechet_infinite_difference", PAIR, _SQUARED,
        "difference of spatial Frechet distances, infinitely many samples", f"paired; {_INFINITE}",
    ),
    Variable("kid", PAIR, "1", "kernel distance (KID)", f"of pooled features; {_KID}"),
    Variable("kid_difference", PAIR, "1", "difference of kernel distances", f"paired, block by block; {_KID}"),
    Variable("kid_samples", PAIR, "1", "samples of the set behind kid", "of the set, first of its shuffled order"),
    Variable("kid_reference_samples", PAIR, "1", "reference samples behind kid", "of the reference"),
    Variable(
        "precision", PAIR, "1", "precision", "share of the set within the reference's 3-nearest-neighbour manifold"
    ),
    Variable("recall", PAIR, "1", "recall", "share of the reference within the set's 3-nearest-neighbour manifold"),
    Variable("precision_difference", PAIR, "1", "difference of precisions", "of precision; without an interval"),
    Variable("recall_difference", PAIR, "1", "difference of recalls", "of recall; without an interval"),
    Variable("manifold_samples", PAIR, "1", "samples of either set", "behind precision and recall"),
    Variable("inception_score", SET, "1", "inception score", _IS),
    Variable("inception_score_ratio", SET, "1", "ratio of inception scores", f"to full precision, paired; {_IS}"),
)  # fmt: skip

BY_NAME = {variable.name: variable for variable in VARIABLES}

INTERVALS = {
    "frechet_infinite": _JACKKNIFE,
    "frechet_infinite_difference": _JACKKNIFE,
    "spatial_frechet_infinite": _JACKKNIFE,
    "spatial_frechet_infinite_difference": _JACKKNIFE,
    "kid": "spread of 10 disjoint blocks, Student's t",
    "kid_difference": "spread of 10 disjoint blocks, Student's t",
    "inception_score": "delete-one-group jackknife, 50 groups, Student's t, formed on the logarithmic scale",
    "inception_score_ratio": "delete-one-group jackknife, 50 groups, Student's t, formed on the logarithmic scale",
}
"""The variables with an interval, and how it is formed."""

FLAGGED = ("frechet", "spatial_frechet", "precision", *INTERVALS)
"""The variables with a reason beside them."""

_ENDS = (("standard_error", "standard error of "), ("low", "lower end of "), ("high", "upper end of "))


def empty_dataset(sizes: dict[str, list[Any]], confidence: float) -> xr.Dataset:
    """Every variable, NaN or 0, with its attributes; reasons are those of pairs that nothing compared."""
    data: dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]] = {}
    for variable in VARIABLES:
        shape = tuple(len(sizes[dim]) for dim in variable.dims)
        counts = variable.name.endswith("samples")
        values = np.zeros(shape, np.int64) if counts else np.full(shape, np.nan)
        data[variable.name] = (variable.dims, values, dict(variable.attrs))
        for end, prefix in _ENDS if variable.name in INTERVALS else ():
            formed = {} if end == "standard_error" else {"interval": INTERVALS[variable.name], "confidence": confidence}
            attrs = variable.attrs | {"long_name": prefix + variable.long_name} | formed
            data[f"{variable.name}_{end}"] = (variable.dims, np.full(shape, np.nan), attrs)
        if variable.name in FLAGGED:
            codes = np.full(shape, Reason.NOT_COMPARED, np.int8)
            data[f"{variable.name}_reason"] = (variable.dims, codes, flag_attrs(variable.long_name))
    return xr.Dataset(data, coords=sizes)


def put_interval(dataset: xr.Dataset, name: str, at: dict[str, str], interval: Interval) -> None:
    """Store a statistic with its interval."""
    for suffix, value in (
        ("", interval.estimate),
        ("_standard_error", interval.standard_error),
        ("_low", interval.low),
        ("_high", interval.high),
    ):
        dataset[name + suffix].loc[at] = float(value)
