"""Is the residual noise white in space? Its autocorrelation and power spectrum, per channel, with intervals.

Sums over pairs of pixels and periodograms are formed per sample; intervals are over samples. The residual has mean 0
per channel by construction and is not centred again sample by sample, which would make the correlation look negative.
Noise whose variance depends on position can be white: only correlation counts.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from noise_models.assumptions.kept import kept_noise
from noise_models.inference.intervals import ARCTANH, LOG, Interval
from noise_models.inference.labelled import interval_variables, result_dataset
from noise_models.inference.pooling import Array
from noise_models.inference.replication import interval_of_sums
from noise_models.inference.verdicts import EQUIVALENCE, equivalence, verdict_variable
from samplers.errors import BadInput

MARGIN = 0.1
"""Correlation of neighbours that counts as none: it explains 1 % of a pixel's variance."""

MOST_LAG = 4


def check_whiteness(
    dataset: xr.Dataset, kind: str = "injected", *, part: str = "residual", confidence: float = 0.95,
    margin: float = MARGIN,
) -> xr.Dataset:  # fmt: skip
    """Autocorrelation up to 4 pixels, power spectrum, and correlation of neighbours with its verdict.

    Args:
        dataset: one run's, with two samples or more kept whole, of two rows and two columns or more.
        kind: ``injected`` or ``accumulated``.
        part: ``residual``, ``varying`` or ``noise``.
        confidence: nominal coverage.
        margin: largest correlation of neighbours that counts as none.

    Returns:
        ``autocorrelation`` (step, channel, lag_row, lag_column), rho(h) = mean of r(x) r(x + h) / mean of r^2;
        ``spectrum`` (step, channel, frequency_row, frequency_column), power over its mean, 1 everywhere for white
        noise; ``radial_spectrum`` (step, frequency), the same averaged over channels and directions;
        ``neighbour_correlation`` (step,), the mean of rho at one row and at one column apart, pooled over channels, and
        its ``_verdict``. Each quantity with standard error, ends and reason.

    Raises:
        BadInput: too few samples kept, samples of one row or column, an unknown choice, or no residual.
    """
    noise = kept_noise(dataset, kind, part, what="the autocorrelation")
    rows, columns = noise.shape[-2:]
    if min(rows, columns) < 2:
        raise BadInput("whiteness needs samples of two rows and columns", got=f"{rows} x {columns}", fix="use others")
    by_sample = np.moveaxis(noise, 1, 0)  # (sample, step, channel, row, column)
    found, coords = _autocorrelation(by_sample, confidence)
    spectra, frequencies = _spectra(by_sample, confidence)
    data: dict[str, xr.Variable] = {}
    for name, interval in {**found, **spectra}.items():
        dims, scale, long_name, definition = _FACTS[name]
        data |= interval_variables(
            name, interval, dims, unit="1", long_name=f"{long_name} of the {part}",
            definition=f"{definition}; {kind} noise of kept samples", confidence=confidence, scale=scale,
        )  # fmt: skip
    near = found["neighbour_correlation"]
    data["neighbour_correlation_verdict"] = verdict_variable(
        ("step",), equivalence(near.low, near.high, margin), EQUIVALENCE, "whether neighbours are uncorrelated",
        margin=margin,
    )  # fmt: skip
    return result_dataset(dataset, f"noise_kept_{kind}", data).assign_coords({**coords, **frequencies})


def _autocorrelation(noise: Array, confidence: float) -> tuple[dict[str, Interval], dict[str, Array]]:
    rows, columns = noise.shape[-2:]
    down = np.arange(min(MOST_LAG, rows - 1) + 1)
    across = np.arange(-min(MOST_LAG, columns - 1), min(MOST_LAG, columns - 1) + 1)
    means = np.stack([np.stack([_mean_product(noise, i, j) for j in across], -1) for i in down], -2)
    power = means[..., 0, len(across) // 2]

    def correlation(products: Array, squares: Array) -> Array:
        return np.clip(products / squares[..., None, None], -1, 1)  # a ratio of means over unlike pairs may pass 1

    def neighbours(products: Array, squares: Array) -> Array:
        pooled = products.sum(-3)  # over channels
        return (pooled[..., 1, len(across) // 2] + pooled[..., 0, len(across) // 2 + 1]) / (2 * squares.sum(-1))

    found = {
        "autocorrelation": interval_of_sums(correlation, means, power, confidence=confidence),
        "neighbour_correlation": interval_of_sums(neighbours, means, power, scale=ARCTANH, confidence=confidence),
    }
    return found, {"lag_row": down, "lag_column": across}


def _mean_product(noise: Array, down: int, across: int) -> Array:
    """Mean of r(x) r(x + lag) over the pairs of one sample and channel."""
    rows, columns = noise.shape[-2:]
    one = noise[..., : rows - down, max(-across, 0) : columns - max(across, 0)]
    other = noise[..., down:, max(across, 0) : columns - max(-across, 0)]
    return (one * other).mean((-2, -1))


def _spectra(noise: Array, confidence: float) -> tuple[dict[str, Interval], dict[str, tuple[str, Array]]]:
    rows, columns = noise.shape[-2:]
    power = np.abs(np.fft.fftshift(np.fft.fft2(noise), axes=(-2, -1))) ** 2 / (rows * columns)
    squares = (noise**2).mean((-2, -1))
    row_frequency, column_frequency = (np.fft.fftshift(np.fft.fftfreq(length)) for length in (rows, columns))
    radius = np.hypot(row_frequency[:, None], column_frequency)
    bins = np.rint(radius * min(rows, columns)).astype(int)
    within = bins <= min(rows, columns) // 2
    count = np.bincount(bins[within])
    member = (bins == np.arange(len(count))[:, None, None]) / count[:, None, None]

    def relative(power: Array, squares: Array) -> Array:
        return power / squares[..., None, None]

    def radial(power: Array, squares: Array) -> Array:
        return power / squares[..., None]

    rings = np.tensordot(power.sum(2), member, ((-2, -1), (1, 2)))
    found = {
        "spectrum": interval_of_sums(relative, power, squares, scale=LOG, confidence=confidence),
        "radial_spectrum": interval_of_sums(radial, rings, squares.sum(2), scale=LOG, confidence=confidence),
    }
    return found, {
        "frequency_row": ("frequency_row", row_frequency),
        "frequency_column": ("frequency_column", column_frequency),
        "frequency": ("frequency", np.arange(len(count)) / min(rows, columns)),
    }


_FACTS: dict[str, tuple[tuple[str, ...], str, str, str]] = {
    "autocorrelation": (
        ("step", "channel", "lag_row", "lag_column"), "its own", "autocorrelation",
        "mean over pixel pairs and samples of r(x) r(x + h) / mean of r^2, lags in pixels",
    ),
    "neighbour_correlation": (
        ("step",), "arctanh", "correlation of neighbours",
        "mean of the autocorrelations one row and one column apart, pooled over channels",
    ),
    "spectrum": (
        ("step", "channel", "frequency_row", "frequency_column"), "logarithmic", "power spectrum",
        "mean periodogram / mean of r^2, frequencies in cycles per pixel",
    ),
    "radial_spectrum": (
        ("step", "frequency"), "logarithmic", "power spectrum by frequency",
        "spectrum averaged over directions and channels, in rings of one cycle per width",
    ),
}  # fmt: skip
