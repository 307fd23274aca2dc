"""The marginal distribution of final samples against the noise-free sampler's, from recorded moments.

Per element within a channel, as Gaussians: W2^2 = (mean' - mean)^2 + (s' - s)^2. For Gaussian data with equal
variances this is the squared 2-Wasserstein distance itself, per element; else it is a distance of two moments.
Absorption is to be judged by this, not by paired error, which it raises by design.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from noise_models.before_after.changes import named, require_paired, verdict
from noise_models.before_after.step_variance import CLOSER
from noise_models.inference.intervals import jackknife
from noise_models.inference.labelled import interval_variables, meaning, recorded, result_dataset
from noise_models.inference.pooling import Array, BlockSums, Pooled, block_sums
from noise_models.inference.verdicts import verdict_variable

VARIABLE = "state_accumulated"


def final_distribution(dataset: xr.Dataset, *, confidence: float = 0.95) -> xr.Dataset:
    """Variance of final samples relative to full precision's, and the Gaussian distance.

    Args:
        dataset: a run with accumulated noise.
        confidence: nominal coverage.

    Returns:
        ``variance_ratio``, ``mean_shift`` (root mean square over channels) and ``wasserstein2_squared``, each with its
        interval, without dimensions. The last two are at least 0 and biased upward by their sampling error.

    Raises:
        BadInput: accumulated noise was not recorded.
    """
    sums = _last(dataset)
    quantities = (
        ("variance_ratio", lambda c: _variance(c).mean(-1) / c.central[2, 0].mean(-1), "ratio of variances",
         "variance of the run's final samples over full precision's, within channels"),
        ("mean_shift", lambda c: np.sqrt((c.mean_e**2).mean(-1)), "shift of the mean",
         "root mean square over channels of the mean error"),
        ("wasserstein2_squared", _distance, "squared Gaussian distance",
         "mean over channels of (mean' - mean)^2 + (s' - s)^2"),
    )  # fmt: skip
    data: dict[str, xr.Variable] = {}
    for name, statistic, long_name, definition in quantities:
        data |= interval_variables(
            name, jackknife(statistic, sums, confidence=confidence), (), unit="1", long_name=long_name,
            definition=f"{definition}; last step of {meaning(VARIABLE)}", confidence=confidence,
        )  # fmt: skip
    return named(result_dataset(dataset, VARIABLE, data), dataset)


def final_distribution_change(before: xr.Dataset, after: xr.Dataset, *, confidence: float = 0.95) -> xr.Dataset:
    """Whether a correction brings the final distribution closer to the noise-free sampler's, paired.

    Returns:
        ``distance_change``, of ``wasserstein2_squared``, with its interval, and ``verdict`` (flags ``CLOSER``).

    Raises:
        BadInput: the runs differ in more than the correction, or accumulated noise was not recorded.
    """
    require_paired(before, after)
    sums = _last(before), _last(after)
    found = jackknife(lambda one, other: _distance(other) - _distance(one), *sums, confidence=confidence)
    data = interval_variables(
        "distance_change", found, (), unit="1", long_name="change of the squared Gaussian distance",
        definition="wasserstein2_squared after - before, paired", confidence=confidence,
    )  # fmt: skip
    data["verdict"] = verdict_variable((), verdict(found), CLOSER, "verdict on the final distribution")
    return named(result_dataset(after, VARIABLE, data), after)


def _last(dataset: xr.Dataset) -> BlockSums:
    moments, count = recorded(dataset, VARIABLE)
    return block_sums(moments.isel(step=-1).transpose("channel", "block", "moment"), count)


def _variance(channels: Pooled) -> Array:
    """Of y + e."""
    return np.asarray(channels.central[2, 0] + 2 * channels.covariance + channels.central[0, 2])


def _distance(channels: Pooled) -> Array:
    spread = np.sqrt(_variance(channels)) - np.sqrt(channels.central[2, 0])
    return np.asarray((channels.mean_e**2 + spread**2).mean(-1))
