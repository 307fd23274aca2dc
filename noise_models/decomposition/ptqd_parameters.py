"""PTQD's parameters as data: k, bias and sigma_q^2 of either variant, each with its interval.

``fit_ptqd`` gives the same numbers as a correction. Here they come with their uncertainty, from any run with injected
noise, so that one sees what a fit of that many samples is worth before it is used.
"""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

from noise_models.absorption.rule import VARIANTS
from noise_models.decomposition.split import (
    channel_bias,
    residual_variance,
    slope,
    split,
    split_samples,
    variance_left,
)
from noise_models.inference.intervals import LOG, Interval, from_replicates
from noise_models.inference.labelled import interval_variables, meaning, result_dataset
from noise_models.inference.pooling import Array, Pooled
from noise_models.inference.replication import Statistic, intervals
from samplers.errors import BadInput
from samplers.validation import require_choice
from simulator.moments import block_count

_VARIABLE = "epsilon_injected"


def estimate_ptqd(dataset: xr.Dataset, variant: str = "paper", *, confidence: float = 0.95) -> xr.Dataset:
    """Fit of PTQD's split with intervals over samples, by the block jackknife.

    k = slope of Delta on epsilon over all elements, 0 where negative (then ``k_is_cut``).

    - ``paper``: bias = per-channel mean of Delta - k epsilon; sigma_q^2 = its variance about that mean.
    - ``released``: bias = per-channel mean of Delta; sigma_q = mean over samples of the deviation of Delta - k epsilon
      over one sample.

    Args:
        dataset: one run's, with injected noise and without a correction, of two samples or more.
        variant: ``paper`` or ``released``.
        confidence: nominal coverage.

    Returns:
        ``k`` (step,), ``bias`` (step, channel), ``residual_variance`` (step,), each with standard error, ends and
        reason, and ``k_is_cut`` (step,).

    Raises:
        BadInput: no injected noise in the dataset, a run with a correction, or an unknown variant.
    """
    require_choice("variant", variant, VARIANTS)
    correction = json.loads(dataset.attrs.get("config", "{}")).get("correction", {"name": "none"})["name"]
    if correction != "none":
        raise BadInput("the split is that of a run without a correction", got=correction, fix="pass the run without")
    pooled, channels = split(dataset, _VARIABLE)
    found = intervals(_FITS[variant], pooled, channels, confidence=confidence)
    if variant == "released":
        found["residual_variance"] = _squared_mean_deviation(dataset, pooled.total(), pooled.without_each(), confidence)
    data: dict[str, xr.Variable] = {}
    for name, interval in found.items():
        long_name, definition = _FACTS[name][variant]
        data |= interval_variables(
            name,
            interval,
            channels.dims if name == "bias" else pooled.dims,
            unit="1",
            long_name=long_name,
            definition=f"{definition}; PTQD, {variant}; {meaning(_VARIABLE)}",
            confidence=confidence,
            scale="logarithmic" if name == "residual_variance" else "its own",
        )
    cut = slope(pooled.total()) < 0
    data["k_is_cut"] = xr.Variable(pooled.dims, cut, {"units": "1", "long_name": "slope below 0, counted as 0"})
    return result_dataset(dataset, _VARIABLE, data)


def _k(pooled: Pooled) -> Array:
    return np.maximum(slope(pooled), 0.0)  # NaN stays


def _squared_mean_deviation(dataset: xr.Dataset, total: Pooled, others: Pooled, confidence: float) -> Interval:
    """sigma_q^2 of the released code; without a block, k is that of the other blocks too."""
    each = split_samples(dataset)
    samples = len(each.mean_y)
    block = np.arange(samples) % block_count(samples)
    sizes = np.bincount(block).astype(np.float64)
    without = [np.sqrt(variance_left(each, k))[block != index].mean(0) for index, k in enumerate(_k(others))]
    estimate = np.sqrt(variance_left(each, _k(total))).mean(0)
    return from_replicates(estimate**2, np.square(without), sizes / samples, scale=LOG, confidence=confidence)


_FITS = {
    "paper": {
        "k": Statistic(lambda pooled, _: _k(pooled)),
        "bias": Statistic(lambda pooled, each: channel_bias(each, _k(pooled))),
        "residual_variance": Statistic(lambda pooled, each: residual_variance(each, _k(pooled)), LOG),
    },
    "released": {
        "k": Statistic(lambda pooled, _: _k(pooled)),
        "bias": Statistic(lambda _, each: each.mean_e),
    },
}
_SLOPE = ("slope of noise on epsilon", "k, the slope of the least-squares line over all elements, 0 where negative")
_FACTS = {
    "k": {"paper": _SLOPE, "released": _SLOPE},
    "bias": {
        "paper": ("bias of noise", "mean of Delta - k epsilon over the elements of a channel"),
        "released": ("bias of noise", "mean of Delta over the elements of a channel"),
    },
    "residual_variance": {
        "paper": ("variance of residual noise", "sigma_q^2, variance of Delta - k epsilon about the bias"),
        "released": (
            "variance of residual noise",
            "sigma_q^2, the square of the mean over samples of the deviation of Delta - k epsilon over a sample",
        ),
    },
}
