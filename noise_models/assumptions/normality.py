"""Is the residual noise normal? An effect size first, a test second, and the test against its sample size.

PTQD tests the residual with D'Agostino and Pearson's omnibus test at 0.01. Rejection at that level says as much about
the number of elements as about the noise: with millions everything is rejected, and elements of one image are not
independent, so that their number is not even the test's. Here:

- skewness and excess kurtosis of the residual (both 0 for a normal), from the fourth-order moments of all samples, with
  intervals over samples. Verdicts follow from these and from margins named beforehand.
- the test on one element per sample, drawn at random, which are independent: its p-value, and the share of draws that
  are rejected, for growing numbers of samples. No rejection is no evidence of normality.
- the test on all elements, once as if they were independent and once with effective numbers: sums over the measured
  autocorrelation rho, n / sum rho^3 for the skewness and n / sum rho^4 for the kurtosis (Lomnicki 1961, Gasser 1975,
  for a Gaussian process; channels of a sample count as one replicate). Noise whose variance differs from sample to
  sample has fewer still.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.special import chdtrc

from noise_models.assumptions.correlation_length import effective_size
from noise_models.assumptions.kept import kept_noise
from noise_models.decomposition.split import slope, split
from noise_models.inference.intervals import PLAIN, Scale
from noise_models.inference.labelled import channel_dims, interval_variables, meaning, recorded, result_dataset
from noise_models.inference.pooling import Array, Pooled, block_sums
from noise_models.inference.replication import Statistic, intervals
from noise_models.inference.verdicts import EQUIVALENCE, equivalence, verdict_variable
from samplers.validation import require_choice

LEVEL = 0.01
"""PTQD's."""

LEAST = 20
"""Fewest samples of the test: below, the transformation of the kurtosis is not accurate (Anscombe and Glynn 1983)."""

DRAWS = 100
SIZES = (20, 32, 64, 128, 256, 512, 1024)

SKEW_MARGIN, KURTOSIS_MARGIN = 0.5, 1.0
"""What counts as near normal: the exponential has 2 and 6, Laplace 0 and 3, logistic 0 and 1.2, uniform 0 and -1.2."""

_SEED = 19730


TAILS = Scale("log(2 + excess)", lambda excess: np.log(excess + 2), lambda value: np.exp(value) - 2)
"""For excess kurtosis, which is at least -2 and whose error grows with its size."""


def skewness_z(skewness: Array, size: Array | float) -> Array:
    """Standard normal score of a sample skewness (D'Agostino 1970); ``size`` may be an effective, fractional one."""
    n = np.asarray(size, np.float64)
    y = skewness * np.sqrt((n + 1) * (n + 3) / (6 * (n - 2)))
    beta = 3 * (n**2 + 27 * n - 70) * (n + 1) * (n + 3) / ((n - 2) * (n + 5) * (n + 7) * (n + 9))
    w2 = np.sqrt(2 * (beta - 1)) - 1
    return np.asarray(np.arcsinh(y * np.sqrt((w2 - 1) / 2)) / np.sqrt(0.5 * np.log(w2)))


def kurtosis_z(excess: Array, size: Array | float) -> Array:
    """Standard normal score of a sample excess kurtosis (Anscombe and Glynn 1983)."""
    n = np.asarray(size, np.float64)
    variance = 24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    x = (excess + 6 / (n + 1)) / np.sqrt(variance)
    root = 6 * (n**2 - 5 * n + 2) / ((n + 7) * (n + 9)) * np.sqrt(6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    a = 6 + 8 / root * (2 / root + np.sqrt(1 + 4 / root**2))
    return np.asarray((1 - 2 / (9 * a) - np.cbrt((1 - 2 / a) / (1 + x * np.sqrt(2 / (a - 4))))) / np.sqrt(2 / (9 * a)))


def omnibus_p(skewness: Array, excess: Array, size: Array | float, kurtosis_size: Array | float | None = None) -> Array:
    """p-value of K^2 = z_skewness^2 + z_kurtosis^2 against chi-squared with 2 degrees of freedom; NaN below 20."""
    kurtosis_size = size if kurtosis_size is None else kurtosis_size
    with np.errstate(invalid="ignore", divide="ignore"):
        p = chdtrc(2, skewness_z(skewness, size) ** 2 + kurtosis_z(excess, kurtosis_size) ** 2)
    return np.where(np.minimum(size, kurtosis_size) >= LEAST, p, np.nan)


def shape(values: Array) -> tuple[Array, Array]:
    """Skewness and excess kurtosis along the last axis, about its own mean; NaN where nothing varies."""
    centred = values - values.mean(-1, keepdims=True)
    second = (centred**2).mean(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (centred**3).mean(-1) / second**1.5, (centred**4).mean(-1) / second**2 - 3


def residual_shape(dataset: xr.Dataset, variable: str, *, confidence: float = 0.95, **margins: float) -> xr.Dataset:
    """Skewness and excess kurtosis of the residual e - k y - bias over all elements, with intervals and verdicts.

    Of a heavy-tailed residual a sample shows too little kurtosis, and intervals miss upwards: of 95 % intervals of 64
    samples of 64 pixels 93 % cover for the normal, 89 % for Laplace's excess of 3.

    Args:
        dataset: one run's.
        variable: moments per block, such as ``epsilon_injected`` or ``site_injected``.
        confidence: nominal coverage.
        margins: ``skew`` and ``kurtosis``; the defaults are ``SKEW_MARGIN`` and ``KURTOSIS_MARGIN``.

    Returns:
        ``skewness`` and ``excess_kurtosis`` over (step,) or (step, site), each with standard error, ends and reason,
        and ``_verdict``: ``holds``, ``violated`` or ``inconclusive``.

    Raises:
        BadInput: ``variable`` was not recorded.
    """
    pooled, _ = split(dataset, variable)
    moments, count = recorded(dataset, variable)
    if not channel_dims(moments):
        moments = moments.expand_dims("channel")
    (channel,) = channel_dims(moments)
    channels = block_sums(moments.transpose(..., channel, "block", "moment"), count, order=4)

    def standardised(order: int, normal: float, scale: Scale) -> Statistic:
        def of(everything: Pooled, each: Pooled) -> Array:
            k = slope(everything)[..., None]
            second, nth = (_residual_moment(each, k, at) for at in (2, order))
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.where(second > 0, nth / second ** (order / 2), np.nan) - normal

        return Statistic(of, scale)

    found = intervals(
        {"skewness": standardised(3, 0.0, PLAIN), "excess_kurtosis": standardised(4, 3.0, TAILS)},
        pooled,
        channels,
        confidence=confidence,
    )
    limits = {"skewness": margins.get("skew", SKEW_MARGIN), "excess_kurtosis": margins.get("kurtosis", KURTOSIS_MARGIN)}
    data: dict[str, xr.Variable] = {}
    for name, interval in found.items():
        long_name = f"{name.replace('_', ' ')} of residual noise"
        data |= interval_variables(
            name,
            interval,
            pooled.dims,
            unit="1",
            long_name=long_name,
            definition=f"{_DEFINITIONS[name]} of r = e - k y - bias, over all elements; {meaning(variable)}",
            confidence=confidence,
            scale=_SCALES[name],
        )
        data[f"{name}_verdict"] = verdict_variable(
            pooled.dims, equivalence(interval.low, interval.high, limits[name]), EQUIVALENCE,
            f"whether the {long_name} is near the normal's", margin=limits[name],
        )  # fmt: skip
    return result_dataset(dataset, variable, data)


def _residual_moment(channels: Pooled, k: Array, order: int) -> Array:
    """Mean of (e - k y)^order about its mean in each channel, averaged over all elements."""
    terms = [
        _BINOMIALS[order][power] * (-k) ** power * channels.central[power, order - power]
        for power in range(order, -1, -1)
    ]
    return (channels.count * np.asarray(sum(terms))).sum(-1) / channels.count.sum(-1)


_BINOMIALS = {2: (1, 2, 1), 3: (1, 3, 3, 1), 4: (1, 4, 6, 4, 1)}
_SCALES = {"skewness": "its own", "excess_kurtosis": TAILS.name}
_DEFINITIONS = {"skewness": "mean of r^3 / (mean of r^2)^1.5", "excess_kurtosis": "mean of r^4 / (mean of r^2)^2 - 3"}


def check_normality(
    dataset: xr.Dataset, kind: str = "injected", *, part: str = "residual", confidence: float = 0.95, **margins: float
) -> xr.Dataset:
    """Effect sizes of all samples, and D'Agostino and Pearson's test on the kept ones.

    Args:
        dataset: one run's, with 20 samples or more kept whole.
        kind: ``injected`` or ``accumulated``.
        part: ``residual``, ``varying`` or ``noise``: what is tested. Effect sizes are those of the residual.
        confidence: nominal coverage.
        margins: as for :func:`residual_shape`.

    Returns:
        What :func:`residual_shape` gives, and over (step,): ``p_value`` (one element per sample), ``p_value_elements``
        (all elements, taken for independent), ``p_value_effective`` with ``effective_size_skewness`` and
        ``effective_size_kurtosis``; ``rejected_share`` over (step, size): share of draws of one element per sample with
        p below 0.01. Draws share their samples, so the share has no binomial interval.

    Raises:
        BadInput: fewer samples kept, an unknown choice, or no residual.
    """
    require_choice("kind", kind, ("injected", "accumulated"))
    noise = kept_noise(dataset, kind, part, least=LEAST, what="the test of normality")
    steps, kept = noise.shape[:2]
    flat = noise.reshape(steps, kept, -1)
    shapes = residual_shape(dataset, f"epsilon_{kind}", confidence=confidence, **margins)
    sizes = [size for size in SIZES if size <= kept]
    p_values, rejected = _one_per_sample(flat, sizes if kept in sizes else [*sizes, kept])
    everything = flat.reshape(steps, -1)
    skewness, excess = shape(everything)
    centred = noise - noise.mean(1, keepdims=True)  # what all samples share is no replicate, nor does it vary
    effective = {power: effective_size(centred, power) for power in (3, 4)}
    tested = f"D'Agostino and Pearson's K^2 of the {part}"
    per_step = {
        "p_value": (p_values, f"{tested}, one random element of each of {kept} samples"),
        "p_value_elements": (
            omnibus_p(skewness, excess, everything.shape[1]),
            f"{tested}, {everything.shape[1]} elements taken for independent",
        ),
        "p_value_effective": (
            omnibus_p(skewness, excess, effective[3], effective[4]), f"{tested}, all elements, effective sizes",
        ),
        "effective_size_skewness": (effective[3], "elements / sum of autocorrelation^3"),
        "effective_size_kurtosis": (effective[4], "elements / sum of autocorrelation^4"),
    }  # fmt: skip
    data = {
        name: (("step",), values, {"units": "1", "long_name": name.replace("_", " "), "definition": definition})
        for name, (values, definition) in per_step.items()
    }
    share = {"units": "1", "long_name": "share of draws rejected", "definition": f"p < {LEVEL}, over {DRAWS} draws"}
    tests = xr.Dataset(
        {**data, "rejected_share": (("step", "size"), rejected, share)},
        coords={"size": ("size", sizes if kept in sizes else [*sizes, kept], {"long_name": "samples tested"})},
    )
    return xr.merge([shapes, tests], combine_attrs="override", compat="no_conflicts")


def _one_per_sample(flat: Array, sizes: list[int]) -> tuple[Array, Array]:
    """p-value of the first draw of all samples, (step,), and share rejected among draws, (step, size)."""
    generator = np.random.default_rng(_SEED)
    steps, kept, elements = flat.shape
    chosen = generator.integers(0, elements, (DRAWS, kept))
    drawn = flat[:, np.arange(kept), chosen]  # (step, draw, sample)
    rejected = np.empty((steps, len(sizes)))
    p_values = np.full(steps, np.nan)
    for index, size in enumerate(sizes):
        p = omnibus_p(*shape(drawn[:, :, :size]), size)
        rejected[:, index] = np.where(np.isfinite(p).all(1), (p < LEVEL).mean(1), np.nan)
        if size == kept:
            p_values = p[:, 0]
    return p_values, rejected
