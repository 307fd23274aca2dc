"""Rounding noise: the uniform model, its exact counterpart, and where the model holds.

The model (Bennett 1948): the error e = Q(x) - x of rounding to multiples of a step is uniform on +-step/2, so of mean
0 and power step^2 / 12, and uncorrelated with x. Exactly, with x = mean + y of symmetric density, u_k = 2 pi k / step,
phi_0 the characteristic function of y and m = mean - offset step (Sripad and Snyder 1977; Widrow, Kollar and Liu 1996):

    E[e]     = (step / pi) sum_k (-1)^k / k sin(u_k m) phi_0(u_k)
    E[e^2]   = step^2 / 12 + (step / pi)^2 sum_k (-1)^k / k^2 cos(u_k m) phi_0(u_k)
    cov(x,e) = -(step / pi) sum_k (-1)^k / k cos(u_k m) phi_0'(u_k)

since x - Q(x) is a sawtooth of x, whose Fourier series this averages. The model is exact iff phi_0 vanishes at every
u_k, and uncorrelated iff phi_0' does too. Widrow's quantizing theorems give sufficient conditions: phi zero from
frequency pi / step on (I: the input's density follows from that of the output) or from 2 pi / step on (II: its moments
do, by Sheppard's corrections, and the model holds). No Gaussian meets them, but 1 percent in power needs no more than
sigma = 0.49 steps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.optimize import brentq

from noise_models.theory.densities import FAMILIES, Array, Density, Transformable
from samplers.errors import BadInput
from samplers.validation import require_choice, require_int, require_real

MOST_CELLS = 1 << 22
"""Cells of a direct sum; wider inputs are a matter of the series."""

VERDICTS = ("holds_at_any_offset", "holds_at_this_offset", "fails")
"""What is said of the uniform model, by code."""


class RoundingError(NamedTuple):
    """First and second moments of the error of rounding, in the input's unit.

    Attributes:
        mean: E[e].
        power: E[e^2].
        covariance: E[(x - mean) e].
    """

    mean: float
    power: float
    covariance: float

    @property
    def variance(self) -> float:
        """Of the error."""
        return self.power - self.mean**2

    def correlation(self, deviation: float) -> float:
        """Of the error with an input of this deviation; NaN for an error without variance."""
        spread = math.sqrt(max(self.variance, 0.0)) * deviation
        return self.covariance / spread if spread > 0 else math.nan


def uniform_noise_power(step: float) -> float:
    """step^2 / 12.

    Raises:
        BadInput: a step that is not above 0.
    """
    return _step(step) ** 2 / 12


def rounding_error(density: Density, step: float, *, offset: float = 0.0) -> RoundingError:
    """Moments of the rounding error, by the sum over all cells.

    Levels are ``(k + offset) step`` for every integer k: offset 0 is mid-tread, 1/2 is midrise.

    Args:
        density: of the input.
        step: between levels.
        offset: of the levels, in steps.

    Raises:
        BadInput: a step that is not above 0, or an input over more than 2^22 of them.
    """
    step, offset = _step(step), require_real("offset", offset)
    low, high = (math.floor(end / step - offset) for end in density.support)
    if high - low > MOST_CELLS:
        raise BadInput(
            f"a direct sum takes at most {MOST_CELLS} steps", got=high - low, fix="use rounding_error_series"
        )
    level = (np.arange(low, high + 2, dtype=np.float64) + offset) * step
    _, first, second = density.partial(level - step / 2, level + step / 2, level)
    covariance = -np.sum(second + (level - density.mean) * first)
    return RoundingError(-float(np.sum(first)), float(np.sum(second)), float(covariance))


def rounding_error_series(
    density: Transformable, step: float, *, offset: float = 0.0, terms: int = 4096
) -> RoundingError:
    """Moments of the rounding error, by the series of the module's text.

    After K terms what is left of the power is at most ``(step / pi)^2 envelope(u_K) / K``. A Gaussian input has all
    digits of float64 after 1.4 step / deviation terms; Laplace's power errs by K^-3 and its mean by K^-2, a uniform
    input's power by K^-2 and its covariance by 1 / K.

    Args:
        density: of the input.
        step: between levels.
        offset: of the levels, in steps, as in :func:`rounding_error`.
        terms: of the series.

    Raises:
        BadInput: a step that is not above 0, or no term.
    """
    step, offset = _step(step), require_real("offset", offset)
    k = np.arange(require_int("terms", terms, 1), 0, -1, dtype=np.float64)  # the smallest terms first
    u, sign = 2 * np.pi * k / step, np.where(k % 2 == 0, 1.0, -1.0)
    phase = 2 * np.pi * np.remainder(k * np.remainder(density.mean / step - offset, 1.0), 1.0)
    even, slope = density.even(u), density.even_slope(u)
    mean = step / np.pi * np.sum(sign / k * np.sin(phase) * even)
    power = step**2 / 12 + (step / np.pi) ** 2 * np.sum(sign / k**2 * np.cos(phase) * even)
    covariance = -step / np.pi * np.sum(sign / k * np.cos(phase) * slope)
    return RoundingError(float(mean), float(power), float(covariance))


def worst_power_error(density: Transformable, step: float) -> float:
    """Bound on |E[e^2] / (step^2 / 12) - 1| over all offsets: (12 / pi^2) sum_k envelope(u_k) / k^2.

    It is met, at the offset whose cell boundary lies on the mean, where the characteristic function is positive and
    falls: Gaussian and Laplace inputs.
    """
    k = np.arange(20_000, 0, -1, dtype=np.float64)
    envelope: Array = density.envelope(2 * np.pi * k / _step(step))
    return float(12 / np.pi**2 * np.sum(envelope / k**2))


def smallest_ratio(family: str, tolerance: float) -> float:
    """The deviation in steps from which on step^2 / 12 holds within ``tolerance``, whatever the offset.

    Necessary as well as sufficient for Gaussian and Laplace inputs; sufficient for uniform ones, whose error is also 0
    at widths of whole steps.

    Args:
        family: gaussian, laplace or uniform.
        tolerance: of E[e^2] relative to step^2 / 12, in (0, 1).

    Raises:
        BadInput: another family, or a tolerance outside (0, 1).
    """
    require_choice("family", family, tuple(FAMILIES))
    _tolerance(tolerance)
    density = FAMILIES[family](0.0, 1.0)
    return float(brentq(lambda ratio: worst_power_error(density, 1 / ratio) - tolerance, 1e-9, 1e7, xtol=1e-12))


def uniform_validity(
    density: Transformable, step: float, *, offset: float = 0.0, tolerance: float = 0.01
) -> xr.Dataset:
    """How far the uniform model is from the truth for one input and step, as data.

    Args:
        density: of the input.
        step: between levels.
        offset: of the levels, in steps, as in :func:`rounding_error`.
        tolerance: for the power, relative; for the correlation, and the mean in deviations of the model, absolute.

    Returns:
        Scalars: ``ratio`` (deviation in steps); ``power_error`` (relative to step^2 / 12), ``power_error_bound`` (over
        all offsets), ``mean_error`` (in step / sqrt 12), ``correlation``; ``theorem_1`` and ``theorem_2`` (the largest
        absolute characteristic function beyond pi / step and 2 pi / step, 0 where Widrow's theorem holds); ``power``,
        ``mean`` and ``uncorrelated`` as codes into ``VERDICTS`` (CF flags).

    Raises:
        BadInput: a step that is not above 0, or a tolerance outside (0, 1).
    """
    _tolerance(tolerance)
    found = rounding_error_series(density, step, offset=offset)
    if density.support[1] - density.support[0] <= 4096 * step:  # exact where it is cheap
        found = rounding_error(density, step, offset=offset)
    model = uniform_noise_power(step)
    errors = {
        "power": (found.power / model - 1, worst_power_error(density, step)),
        "mean": (found.mean / math.sqrt(model), _worst_mean(density, step)),
        "uncorrelated": (found.correlation(density.deviation), _worst_correlation(density, step)),
    }
    data = {
        "ratio": _scalar(density.deviation / step, "input deviation in steps", "deviation / step"),
        "power_error": _scalar(errors["power"][0], "error of the modelled power", "E[e^2] / (step^2 / 12) - 1"),
        "power_error_bound": _scalar(errors["power"][1], "the same at the worst offset", worst_power_error.__name__),
        "mean_error": _scalar(errors["mean"][0], "mean error", "E[e] / sqrt(step^2 / 12)"),
        "correlation": _scalar(errors["uncorrelated"][0], "correlation of input and error", "cov(x, e) / (sd x sd e)"),
    }
    for name, edge in (("theorem_1", np.pi), ("theorem_2", 2 * np.pi)):
        definition = f"largest |phi(u)| for u >= {edge / np.pi:g} pi / step; the theorem asks for 0"
        data[name] = _scalar(float(density.envelope(edge / step)), f"quantizing {name.replace('_', ' ')}", definition)
    flags = {"flag_values": np.arange(len(VERDICTS), dtype=np.int8), "flag_meanings": " ".join(VERDICTS)}
    for name, (here, anywhere) in errors.items():
        code = 0 if anywhere <= tolerance else 1 if abs(here) <= tolerance else 2
        data[name] = xr.Variable((), np.int8(code), {"units": "1", "long_name": f"verdict on {name}", **flags})
    attrs = {"input": repr(density), "step": step, "offset": offset, "tolerance": tolerance}
    return xr.Dataset(data, attrs=attrs)


def _worst_mean(density: Transformable, step: float) -> float:
    """Bound of |E[e]| / sqrt(step^2 / 12) over all offsets: (sqrt 12 / pi) sum_k envelope(u_k) / k."""
    k = np.arange(20_000, 0, -1, dtype=np.float64)
    return float(math.sqrt(12) / np.pi * np.sum(density.envelope(2 * np.pi * k / step) / k))


def _worst_correlation(density: Transformable, step: float) -> float:
    """Bound of the correlation over all offsets, from sum_k |phi_0'(u_k)| / k and the least possible variance."""
    k = np.arange(20_000, 0, -1, dtype=np.float64)
    covariance = step / np.pi * np.sum(np.abs(density.even_slope(2 * np.pi * k / step)) / k)
    least = uniform_noise_power(step) * (1 - worst_power_error(density, step) - _worst_mean(density, step) ** 2)
    return float(covariance / (density.deviation * math.sqrt(least))) if least > 0 else math.inf


def _scalar(value: float, long_name: str, definition: str) -> xr.Variable:
    return xr.Variable((), float(value), {"units": "1", "long_name": long_name, "definition": definition})


def _step(step: float) -> float:
    if (value := require_real("step", step)) <= 0:
        raise BadInput("step must be above 0", got=value, fix="pass the quantizer's step")
    return value


def _tolerance(tolerance: float) -> None:
    if not 0 < require_real("tolerance", tolerance) < 1:
        raise BadInput("tolerance must lie between 0 and 1", got=tolerance, fix="use 0.01 for 1 percent")
