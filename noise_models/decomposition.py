"""Noise split along its signal: e = k y + bias + residual, per step and per site.

k is the slope of the least-squares line of e on y over all elements of a step (or of a step and site), with one
intercept that is not kept; bias, per channel, is the mean of e - k y; the residual is what then remains, of mean 0 in
every channel. For epsilon this is PTQD's split of Delta (He et al. 2023, section 4.2), before its rule that a negative
k counts as 0.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from noise_models.intervals import ARCTANH, LOG, Interval, jackknife
from noise_models.labelled import channel_dims, interval_variables, meaning, recorded, result_dataset
from noise_models.pooling import Array, BlockSums, Pooled, block_sums


def slope(pooled: Pooled) -> Array:
    """k = covariance / variance of y; NaN where y does not vary."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(pooled.variance_y > 0, pooled.covariance / pooled.variance_y, np.nan)


def correlation(pooled: Pooled) -> Array:
    """Pearson's r of y and e, within [-1, 1]; NaN where either does not vary."""
    product = np.sqrt(pooled.variance_y) * np.sqrt(pooled.variance_e)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.where(product > 0, pooled.covariance / product, np.nan)
    return np.clip(r, -1, 1)  # beyond 1 by rounding only (Cauchy-Schwarz)


def channel_bias(channels: Pooled, k: Array) -> Array:
    """Mean of e - k y per channel, (..., channel), for k of shape (...)."""
    return channels.mean_e - k[..., None] * channels.mean_y


def residual_variance(channels: Pooled, k: Array) -> Array:
    """Variance of e - k y about its mean in each channel, averaged over all elements: (...) from (..., channel)."""
    k = k[..., None]
    own = channels.central[0, 2] - 2 * k * channels.covariance + k**2 * channels.central[2, 0]
    variance = (channels.count * own).sum(-1) / channels.count.sum(-1)
    return np.where(variance < 0, 0.0, variance)  # below 0 by rounding only; NaN stays


def split(dataset: xr.Dataset, variable: str) -> tuple[BlockSums, BlockSums]:
    """Sums of a recorded variable pooled over channels, and per channel with the channel last.

    A site's moments are not kept per channel, so there a site counts as one channel.
    """
    moments, count = recorded(dataset, variable)
    if not channel_dims(moments):
        moments = moments.expand_dims("channel")
    (channel,) = channel_dims(moments)
    moments = moments.transpose(..., channel, "block", "moment")
    return block_sums(moments, count, (channel,)), block_sums(moments, count)


def decompose(dataset: xr.Dataset, variable: str = "epsilon_injected", *, confidence: float = 0.95) -> xr.Dataset:
    """Slope, correlation, bias and residual variance of recorded noise, each with its interval.

    Intervals are formed on the scale that suits the quantity: the correlation by Fisher's z, the residual variance on
    the logarithmic scale, slope and bias on their own; that of R^2 is the image of the correlation's.

    Args:
        dataset: a run's dataset, or several along further dimensions.
        variable: moments per block, such as ``epsilon_injected`` or ``site_injected``.
        confidence: nominal coverage.

    Returns:
        ``slope``, ``correlation``, ``r_squared``, ``residual_variance`` over (step,) or (step, site), ``bias`` over
        (step, channel) or (step, site), after decoding () and (image_channel,); each with its standard error, ends
        and reason. NaN where y does not vary; where there is no noise, slope, bias and residual variance are 0 and the
        correlation NaN.

    Raises:
        BadInput: ``variable`` was not recorded.
    """
    pooled, channels = split(dataset, variable)
    per_channel = bool(channel_dims(dataset[variable]))

    def bias(all_channels: Pooled, each: Pooled) -> Array:
        values = channel_bias(each, slope(all_channels))
        return values if per_channel else values[..., 0]

    r = jackknife(correlation, pooled, scale=ARCTANH, confidence=confidence)
    intervals = {
        "slope": jackknife(slope, pooled, confidence=confidence),
        "correlation": r,
        "r_squared": _squared(r),
        "bias": jackknife(bias, pooled, channels, confidence=confidence),
        "residual_variance": jackknife(
            lambda p, c: residual_variance(c, slope(p)), pooled, channels, scale=LOG, confidence=confidence
        ),
    }
    data: dict[str, xr.Variable] = {}
    for name, interval in intervals.items():
        long_name, definition, scale = _FACTS[name]
        data |= interval_variables(
            name,
            interval,
            channels.dims if name == "bias" and per_channel else pooled.dims,
            unit="1",
            long_name=long_name,
            definition=f"{definition}; {meaning(variable)}",
            confidence=confidence,
            scale=scale,
        )
    return result_dataset(dataset, variable, data)


def _squared(r: Interval) -> Interval:
    """The image of a correlation's interval: it holds r^2 whenever that one holds r."""
    ends = np.square([r.low, r.high])
    low = np.where((r.low <= 0) & (r.high >= 0), 0.0, ends.min(0))
    return Interval(r.estimate**2, 2 * np.abs(r.estimate) * r.standard_error, low, ends.max(0), r.reason)


_LINE = "of the least-squares line of e on y over all elements, with an intercept"
_FACTS = {
    "slope": ("slope of noise on signal", f"k, the slope {_LINE}", "its own"),
    "correlation": ("correlation of noise and signal", "Pearson's r of y and e over all elements", "arctanh"),
    "r_squared": ("share of noise variance along the signal", f"r^2, the share explained {_LINE}", "arctanh"),
    "bias": ("bias of noise", "mean of e - k y over the elements of a channel (of a site)", "its own"),
    "residual_variance": (
        "variance of residual noise",
        "variance of e - k y about its mean in each channel, averaged over all elements",
        "logarithmic",
    ),
}
