"""One-step variance of x_{t-1} against the noise-free sampler's: what absorption is meant to restore, measured.

The noise-free step from full precision's x_t has variance var(m) + c^2, m its mean; the arm's has var(m') + c'^2. The
excess is their difference. It holds every covariance of the noise with x_t; absorption assumes that there is none.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from noise_models.before_after.changes import named, require_paired, verdict
from noise_models.decomposition.split import slope
from noise_models.inference.intervals import jackknife
from noise_models.inference.labelled import interval_variables, meaning, recorded, result_dataset
from noise_models.inference.pooling import Array, BlockSums, Pooled, block_sums
from noise_models.inference.verdicts import verdict_variable

CLOSER = ("undefined", "closer", "farther", "inconclusive")


def one_step_variance(dataset: xr.Dataset, *, confidence: float = 0.95) -> xr.Dataset:
    """Variance of x_{t-1} after one step of an arm, and how far it is from the noise-free sampler's.

    Args:
        dataset: of :func:`simulator.one_step`.
        confidence: nominal coverage.

    Returns:
        ``variance_reference`` and ``variance`` of x_{t-1}, ``variance_excess``, their difference = ``noise_variance`` +
        ``noise_covariance`` + c_used^2 - c^2, and ``residual_slope``, the slope of the noise on x_t, each with its
        interval over (step,); variances are within channels, averaged over them.
    """
    sums = _sums(dataset, "mean_injected")
    fresh, used = (dataset[name].to_numpy() for name in ("c", "c_used"))

    def reference(channels: Pooled) -> Array:
        return _average(channels.central[2, 0]) + fresh**2

    def excess(channels: Pooled) -> Array:
        return _excess(channels) + used**2 - fresh**2

    moments, count = recorded(dataset, "residual_injected")
    residual = block_sums(moments, count, ("channel",))
    quantities = (
        ("variance_reference", jackknife(reference, sums, confidence=confidence), "one-step variance without noise",
         "variance of x_{t-1} within channels: var(y) + c^2"),
        ("variance", jackknife(lambda c: reference(c) + excess(c), sums, confidence=confidence), "one-step variance",
         "variance of the arm's x_{t-1} within channels: var(y + e) + c_used^2"),
        ("variance_excess", jackknife(excess, sums, confidence=confidence), "excess of one-step variance",
         "variance - variance_reference"),
        ("noise_variance", jackknife(lambda c: _average(c.central[0, 2]), sums, confidence=confidence),
         "variance of the step's noise", "var(e) within channels, what absorption counts with"),
        ("noise_covariance", jackknife(lambda c: _average(2 * c.covariance), sums, confidence=confidence),
         "covariance of the step's noise", "2 cov(y, e) within channels, what absorption takes for 0"),
        ("residual_slope", jackknife(slope, residual, confidence=confidence), "slope of the noise on x_t",
         "of the least-squares line of corrected epsilon's error on x_t, over all elements"),
    )  # fmt: skip
    data: dict[str, xr.Variable] = {}
    for name, found, long_name, definition in quantities:
        data |= interval_variables(
            name, found, ("step",), unit="1", long_name=long_name, confidence=confidence,
            definition=f"{definition}; {meaning('mean_injected')}",
        )  # fmt: skip
    return named(result_dataset(dataset, "mean_injected", data), dataset)


def one_step_change(before: xr.Dataset, after: xr.Dataset, *, confidence: float = 0.95) -> xr.Dataset:
    """Whether a correction brings the one-step variance closer to the noise-free sampler's, paired.

    Args:
        before: of :func:`simulator.one_step`, without the correction (or without its absorption).
        after: with it, of the same configuration otherwise.
        confidence: nominal coverage.

    Returns:
        ``distance_change`` = abs(excess after) - abs(excess before), with its interval, and ``verdict`` (flags
        ``CLOSER``), over (step,).

    Raises:
        BadInput: the runs differ in more than the correction.
    """
    require_paired(before, after)
    fresh = before["c"].to_numpy() ** 2
    lowered = [run["c_used"].to_numpy() ** 2 - fresh for run in (before, after)]

    def change(one: Pooled, other: Pooled) -> Array:
        return np.abs(_excess(other) + lowered[1]) - np.abs(_excess(one) + lowered[0])

    sums = [_sums(run, "mean_injected") for run in (before, after)]
    found = jackknife(change, *sums, confidence=confidence)
    data = interval_variables(
        "distance_change", found, ("step",), unit="1", long_name="change of the distance of one-step variances",
        definition="abs(excess after) - abs(excess before)", confidence=confidence,
    )  # fmt: skip
    data["verdict"] = verdict_variable(("step",), verdict(found), CLOSER, "verdict on the one-step variance")
    return named(result_dataset(after, "mean_injected", data), after)


def _sums(dataset: xr.Dataset, variable: str) -> BlockSums:
    """Per channel, the channel last."""
    moments, count = recorded(dataset, variable)
    return block_sums(moments.transpose("step", "channel", "block", "moment"), count)


def _excess(channels: Pooled) -> Array:
    """var(y + e) - var(y) within channels, without the cancellation of a difference of the two."""
    return _average(2 * channels.covariance + channels.central[0, 2])


def _average(of_channels: Array) -> Array:
    """Channels are of equal size."""
    return np.asarray(of_channels.mean(-1))
