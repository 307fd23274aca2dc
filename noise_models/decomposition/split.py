"""Noise split along its signal: e = k y + bias + residual, per step, per channel and per site.

Over all elements of a step (or of a step and site) k is the slope of the least-squares line of e on y, with one
intercept; bias, per channel, is the mean of e - k y; the residual is what then remains, of mean 0 in every channel. For
epsilon this is PTQD's split of Delta (He et al. 2023, section 4.2), before its rule that a negative k counts as 0. Per
channel, every channel has a line of its own, and its intercept is its bias.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import xarray as xr

from noise_models.inference.intervals import ARCTANH, LOG, REASONS, Interval
from noise_models.inference.labelled import channel_dims, interval_variables, meaning, recorded, result_dataset
from noise_models.inference.pooling import Array, BlockSums, Pooled, block_sums
from noise_models.inference.replication import Statistic, intervals
from samplers.errors import BadInput
from samplers.validation import require_choice

LINES = ("step", "channel")
"""What one least-squares line is drawn through: all elements of a step (and site), or those of a channel."""


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


def intercept(pooled: Pooled) -> Array:
    """Mean of e - k y over all elements, for their own slope k."""
    return pooled.mean_e - slope(pooled) * pooled.mean_y


def variance_left(pooled: Pooled, k: Array) -> Array:
    """Variance of e - k y about its mean."""
    variance = pooled.central[0, 2] - 2 * k * pooled.covariance + k**2 * pooled.central[2, 0]
    return np.where(variance < 0, 0.0, variance)  # below 0 by rounding only; NaN stays


def line_residual_variance(pooled: Pooled) -> Array:
    """Variance of e - k y about its mean, for the elements' own slope k."""
    return variance_left(pooled, slope(pooled))


def channel_bias(channels: Pooled, k: Array) -> Array:
    """Mean of e - k y per channel, (..., channel), for k of shape (...)."""
    return channels.mean_e - k[..., None] * channels.mean_y


def residual_variance(channels: Pooled, k: Array) -> Array:
    """Variance of e - k y about its mean in each channel, averaged over all elements: (...) from (..., channel)."""
    k = k[..., None]
    own = channels.central[0, 2] - 2 * k * channels.covariance + k**2 * channels.central[2, 0]
    variance = (channels.count * own).sum(-1) / channels.count.sum(-1)
    return np.where(variance < 0, 0.0, variance)  # below 0 by rounding only; NaN stays


def _bias(all_channels: Pooled, each: Pooled) -> Array:
    return channel_bias(each, slope(all_channels))


def split(dataset: xr.Dataset, variable: str) -> tuple[BlockSums, BlockSums]:
    """Sums of a recorded variable pooled over channels, and per channel with the channel last.

    A site's moments are not kept per channel, so there a site counts as one channel.
    """
    moments, count = recorded(dataset, variable)
    if not channel_dims(moments):
        pooled = block_sums(moments, count)
        return pooled, pooled.expanded("channel")
    (channel,) = channel_dims(moments)
    moments = moments.transpose(..., channel, "block", "moment")
    return block_sums(moments, count, (channel,)), block_sums(moments, count)


def split_samples(dataset: xr.Dataset) -> Pooled:
    """Moments of each sample's injected noise of epsilon by itself, pooled over its channels, (sample, step).

    Raises:
        BadInput: the dataset holds no moments per sample.
    """
    if "epsilon_sample_injected" not in dataset:
        raise BadInput(
            "the released variant needs moments per sample",
            got="a dataset without epsilon_sample_injected",
            fix="pass the dataset of a paired run",
        )
    moments = dataset["epsilon_sample_injected"].rename(sample="block")
    equal = xr.ones_like(moments.isel(moment=0, drop=True))  # channels are of equal size
    return block_sums(moments, equal, ("channel",)).each()


def decompose(
    dataset: xr.Dataset,
    variable: str = "epsilon_injected",
    *,
    by: str = "step",
    method: str = "jackknife",
    confidence: float = 0.95,
) -> xr.Dataset:
    """Slope, intercept, correlation, bias and residual variance of recorded noise, each with its interval.

    Jackknife intervals are formed on the scale that suits the quantity: the correlation by Fisher's z, the residual
    variance on the logarithmic scale, the others on their own; that of R^2 is the image of the correlation's.

    Args:
        dataset: a run's dataset, or several along further dimensions.
        variable: moments per block, such as ``epsilon_injected`` or ``site_injected``.
        by: ``step``, one line through all elements of a step (and site); ``channel``, one line per channel.
        method: ``jackknife`` or ``bootstrap``.
        confidence: nominal coverage.

    Returns:
        ``slope``, ``intercept``, ``correlation``, ``r_squared``, ``residual_variance`` over (step,) or (step, site),
        ``bias`` over (step, channel) or (step, site), after decoding () and (image_channel,); by channel all over
        (step, channel), without ``bias``, which there is the intercept. Each with its standard error, ends and reason.
        NaN where y does not vary, and at sites whose operands were clipped every one; where there is no noise, slope,
        bias and residual variance are 0 and the correlation NaN.

    Raises:
        BadInput: ``variable`` was not recorded, has no channels where they are asked for, or an unknown choice.
    """
    require_choice("by", by, LINES)
    pooled, channels = split(dataset, variable)
    per_channel = bool(channel_dims(dataset[variable]))
    if by == "channel" and not per_channel:
        raise BadInput(
            "a line per channel needs moments per channel",
            got=f"{variable!r} with {', '.join(map(str, dataset[variable].dims))}",
            fix='use by="step", or an epsilon, state or decoded variable',
        )
    found = intervals(
        _BY_CHANNEL if by == "channel" else _BY_STEP,
        *((channels,) if by == "channel" else (pooled, channels)),
        method=method,
        confidence=confidence,
    )
    found["r_squared"] = _squared(found["correlation"])
    if not per_channel:
        found["bias"] = _map(found["bias"], lambda values: values[..., 0])
    clipped = _all_clipped(dataset, variable, pooled.dims)
    data: dict[str, xr.Variable] = {}
    for name, (long_name, definition, scale) in _FACTS.items():
        if name not in found:
            continue
        over = "over the elements of a channel" if by == "channel" else "over all elements"
        data |= interval_variables(
            name,
            found[name] if clipped is None else _without(found[name], clipped),
            channels.dims if by == "channel" or (name == "bias" and per_channel) else pooled.dims,
            unit="1",
            long_name=long_name,
            definition=f"{definition.format(over=over)}; {meaning(variable)}",
            confidence=confidence,
            scale=scale,
            method=method,
        )
    return result_dataset(dataset, variable, data)


def _all_clipped(dataset: xr.Dataset, variable: str, dims: tuple[str, ...]) -> np.ndarray | None:
    """Whether every run-time operand element of a site was clipped, over ``dims``; None where that is not counted."""
    clipped = variable.replace("site_", "site_clipped_")
    if (
        not variable.startswith("site_")
        or not {clipped, "site_operands"} <= set(dataset)
        or "config" not in dataset.attrs
    ):
        return None
    operands = dataset["site_operands"] * json.loads(dataset.attrs["config"])["samples"]
    return ((dataset[clipped] >= operands) & (operands > 0)).transpose(*dims).to_numpy()


def _without(interval: Interval, undefined: np.ndarray) -> Interval:
    """The interval with NaN, and the reason, where clipping left codes of no information."""
    masked = _map(interval, lambda values: np.where(undefined, np.nan, values))
    reason = np.where(undefined, REASONS.index("every_operand_clipped"), interval.reason)
    return masked._replace(reason=reason.astype(np.int8))


def _map(interval: Interval, change: Callable[[np.ndarray], np.ndarray]) -> Interval:
    estimate, error, low, high = (change(values) for values in interval[:4])
    return Interval(estimate, error, low, high, change(interval.reason))


def _squared(r: Interval) -> Interval:
    """The image of a correlation's interval: it holds r^2 whenever that one holds r."""
    ends = np.square([r.low, r.high])
    low = np.where((r.low <= 0) & (r.high >= 0), 0.0, ends.min(0))
    return Interval(r.estimate**2, 2 * np.abs(r.estimate) * r.standard_error, low, ends.max(0), r.reason)


_BY_STEP = {
    "slope": Statistic(lambda pooled, _: slope(pooled)),
    "intercept": Statistic(lambda pooled, _: intercept(pooled)),
    "correlation": Statistic(lambda pooled, _: correlation(pooled), ARCTANH),
    "bias": Statistic(_bias),
    "residual_variance": Statistic(lambda pooled, each: residual_variance(each, slope(pooled)), LOG),
}
_BY_CHANNEL = {
    "slope": Statistic(slope),
    "intercept": Statistic(intercept),
    "correlation": Statistic(correlation, ARCTANH),
    "residual_variance": Statistic(line_residual_variance, LOG),
}
_LINE = "of the least-squares line of e on y {over}, with an intercept"
_FACTS = {
    "slope": ("slope of noise on signal", f"k, the slope {_LINE}", "its own"),
    "intercept": ("intercept of noise on signal", f"the intercept {_LINE}", "its own"),
    "correlation": ("correlation of noise and signal", "Pearson's r of y and e {over}", "arctanh"),
    "r_squared": ("share of noise variance along the signal", f"r^2, the share explained {_LINE}", "arctanh"),
    "bias": ("bias of noise", "mean of e - k y over the elements of a channel (of a site)", "its own"),
    "residual_variance": (
        "variance of residual noise",
        "variance of e - k y about its mean in each channel, averaged {over}",
        "logarithmic",
    ),
}
