"""Autocorrelation within samples, and how many independent elements correlated ones are worth."""

from __future__ import annotations

import numpy as np

from noise_models.inference.pooling import Array


def lag_correlations(noise: Array) -> tuple[Array, Array]:
    """Autocorrelation of noise at every lag, pooled over samples and channels, and the share of pairs at each lag.

    rho(h) = [sum over pairs x, x + h of r(x) r(x + h) / number of such pairs] / mean r^2, over (step, lag row, lag
    column) in FFT order; pairs(h) relative to the elements of one channel. The noise counts as of mean 0.

    Args:
        noise: (step, sample, channel, row, column).
    """
    rows, columns = noise.shape[-2:]
    size = (2 * rows - 1, 2 * columns - 1)
    spectra = (np.abs(np.fft.rfft2(step, size)) ** 2 for step in noise)  # step by step: the padded ones are large
    products = np.fft.irfft2(np.stack([power.mean((0, 1)) for power in spectra]), size)
    pairs = _pairs(rows)[:, None] * _pairs(columns)
    covariance = products / pairs
    with np.errstate(invalid="ignore", divide="ignore"):
        return covariance / covariance[:, :1, :1], pairs / (rows * columns)


def _pairs(length: int) -> Array:
    lags = np.fft.fftfreq(2 * length - 1, 1 / (2 * length - 1))
    return length - np.abs(np.rint(lags))


def effective_size(noise: Array, power: int) -> Array:
    """Independent elements that all of them are worth, for a mean of r^power: samples x elements / sum pairs rho^power.

    For a Gaussian process the variance of a sample's skewness is 6 / n sum rho^3 and that of its kurtosis 24 / n sum
    rho^4. Channels of a sample are taken for one and the same, the worst case. Never above the number of elements of
    one channel times samples.

    Squares of estimated correlations add what they err by. For white noise that is 1 / (samples x channels x pairs) at
    each lag other than 0, which is taken off for power 2; for 3 and 4 it is negligible.

    Args:
        noise: (step, sample, channel, row, column), of mean 0.
        power: of the correlation; 2 for a variance, 3 and 4 for skewness and kurtosis.

    Returns:
        (step,); NaN where nothing varies.
    """
    correlation, pairs = lag_correlations(noise)
    per_sample = noise.shape[-2] * noise.shape[-1]
    worth = (pairs * correlation**power).sum((1, 2))
    if power == 2:
        worth -= (pairs.size - 1) / (noise.shape[1] * noise.shape[2] * per_sample)
    return noise.shape[1] * per_sample / np.maximum(worth, 1.0)
