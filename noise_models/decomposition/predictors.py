"""What is left of the noise after a prediction of it: alpha e + beta y + gamma, linear for every model here.

| predictor | predicts e by | what is left |
|---|---|---|
| ``bias`` | its mean per channel | e - b |
| ``line`` | k y + bias, y unobservable: an upper bound on what PTQD can explain | e - k y - b |
| ``ptqd`` | (y + e - b) / (1 + k) in place of y + e, k at least 0 | (e - k y - b) / (1 + k) |
| ``ptqd-released`` | the same with the mean of e itself as b | (e - k y - b) / (1 + k) |
| ``observable`` | E[e given y + e], D2-DPM, one Gaussian per step | e - m - s (y + e - u) |
| ``observable-channel`` | one Gaussian per channel | e - m - s (y + e - u) |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from noise_models.decomposition.observable import observable_slope, observed
from noise_models.decomposition.split import channel_bias, slope
from noise_models.inference.pooling import Array, Pooled


@dataclass(frozen=True)
class Left:
    """alpha e + beta y + gamma, coefficients over (step, channel) or (step, 1)."""

    alpha: Array
    beta: Array
    gamma: Array

    def power(self, channels: Pooled) -> Array:
        """Mean square of what is left, over all channels of (..., step, channel): (..., step).

        A sum of a variance and a squared mean, so that nothing large cancels.
        """
        c = channels.central
        variance = self.alpha**2 * c[0, 2] + 2 * self.alpha * self.beta * c[1, 1] + self.beta**2 * c[2, 0]
        mean = self.alpha * channels.mean_e + self.beta * channels.mean_y + self.gamma
        own = np.where(variance < 0, 0.0, variance) + mean**2  # below 0 by rounding only
        return (channels.count * own).sum(-1) / channels.count.sum(-1)


def _bias(_: Pooled, channels: Pooled) -> Left:
    return Left(np.ones_like(channels.mean_e), np.zeros_like(channels.mean_e), -channels.mean_e)


def _line(pooled: Pooled, channels: Pooled) -> Left:
    k = slope(pooled)
    return Left(np.ones_like(k)[..., None], -k[..., None], -channel_bias(channels, k))


def _ptqd(pooled: Pooled, channels: Pooled) -> Left:
    k = np.maximum(slope(pooled), 0.0)
    return _divided(k, channel_bias(channels, k))


def _ptqd_released(pooled: Pooled, channels: Pooled) -> Left:
    return _divided(np.maximum(slope(pooled), 0.0), channels.mean_e)


def _divided(k: Array, bias: Array) -> Left:
    k = k[..., None]
    return Left(1 / (1 + k), -k / (1 + k), -bias / (1 + k))


def _observable(pooled: Pooled, _: Pooled) -> Left:
    return _gaussian(pooled, lambda values: values[..., None])


def _observable_channel(_: Pooled, channels: Pooled) -> Left:
    return _gaussian(channels, lambda values: values)


def _gaussian(pooled: Pooled, shape: Callable[[Array], Array]) -> Left:
    output = observed(pooled)
    s = observable_slope(output)
    return Left(shape(1 - s), shape(-s), shape(-(output.mean_e - s * output.mean_y)))


PREDICTORS: Mapping[str, Callable[[Pooled, Pooled], Left]] = MappingProxyType(
    {
        "bias": _bias,
        "line": _line,
        "ptqd": _ptqd,
        "ptqd-released": _ptqd_released,
        "observable": _observable,
        "observable-channel": _observable_channel,
    }
)
"""By name, each fitted on moments pooled over channels and per channel."""
