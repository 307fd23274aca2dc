"""Is the residual noise equally strong in every sample, and in every class of samples?

One noise variance per step, as PTQD and any propagation of variances use it, is that of a mean sample. Here the mean
square of each sample's residual e - k y - bias is compared between samples. Samples of equal variance differ as well,
by chance: the squared coefficient of variation of a mean square of m independent normal elements is 2 / m. What counts
is the excess over that, with m measured from the residual's autocorrelation where samples were kept whole.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.special import fdtr, fdtrc, ncfdtr

from noise_models.assumptions.correlation_length import effective_size
from noise_models.assumptions.kept import kept_noise, line
from noise_models.inference.intervals import ARCTANH, LOG, Interval
from noise_models.inference.labelled import interval_variables, result_dataset
from noise_models.inference.pooling import Array
from noise_models.inference.replication import interval_of_sums
from noise_models.inference.verdicts import EQUIVALENCE, equivalence, verdict_variable
from samplers.errors import BadInput
from samplers.validation import require_choice

MARGIN = 0.25
"""Standard deviation between samples of the noise power, relative to its mean, that counts as none: 1 dB."""

CLASS_MARGIN = 0.06
"""Share of the variation between samples that classes may explain: Cohen's bound of a medium effect."""

LEAST = 8


def sample_power(dataset: xr.Dataset, kind: str = "injected") -> tuple[Array, Array]:
    """Mean square of each sample's residual, and of its epsilon, (sample, step), from the recorded moments.

    Raises:
        BadInput: the run did not record that kind, or epsilon does not vary.
    """
    require_choice("kind", kind, ("injected", "accumulated"))
    name = f"epsilon_sample_{kind}"
    if name not in dataset:
        raise BadInput("homogeneity needs moments per sample", got=f"no {name}", fix=f"record {kind} noise")
    k, bias = line(dataset, kind)
    moments = dataset[name].transpose("sample", "step", "channel", "moment")
    mean_y, mean_e, yy, ye, ee = (moments.sel(moment=m).to_numpy() for m in ("mean_y", "mean_e", "yy", "ye", "ee"))
    k = k[:, None]
    variance = np.maximum(ee - 2 * k * ye + k**2 * yy, 0.0)
    return (variance + (mean_e - k * mean_y - bias) ** 2).mean(-1), (yy + mean_y**2).mean(-1)


def check_homogeneity(
    dataset: xr.Dataset, kind: str = "injected", *, groups: ArrayLike | None = None, confidence: float = 0.95,
    margin: float = MARGIN,
) -> xr.Dataset:  # fmt: skip
    """How much the power of the residual varies between samples, with the signal, and between classes.

    Args:
        dataset: one run's, of 8 samples or more.
        kind: ``injected`` or ``accumulated``.
        groups: class of every sample, (sample,) integers or strings; two classes or more of two samples or more.
        confidence: nominal coverage.
        margin: largest relative deviation between samples, beyond chance, that counts as none.

    Returns:
        Over (step,), each with standard error, ends and reason: ``power_variation``, squared coefficient of variation
        of the samples' noise power; ``excess_variation``, less what chance explains (``chance_variation``), and its
        ``_verdict`` against margin^2; ``signal_correlation``, correlation of log noise power and log signal power over
        samples. With groups ``class_share``, the share of the variation of root noise power between samples that
        classes explain, less chance (epsilon squared; it may come out below 0 and below its interval, which holds
        shares that are possible and is that of normal root powers), its ``_verdict``, and ``class_p_value`` of the
        one-way analysis of variance (Brown and Forsythe's test on root mean squares, one per sample, in place of
        absolute deviations).

    Raises:
        BadInput: fewer samples, groups that do not fit, the kind was not recorded, or no residual.
    """
    noise, signal = sample_power(dataset, kind)
    samples = len(noise)
    if samples < LEAST:
        raise BadInput(f"homogeneity needs at least {LEAST} samples", got=samples, fix="run more")
    worth, how = _elements_per_sample(dataset, kind)
    chance = 2 / worth
    found = {
        "power_variation": interval_of_sums(_variation, *_summands(noise), scale=LOG, confidence=confidence),
        "signal_correlation": _log_correlation(noise, signal, confidence),
    }
    total = found["power_variation"]
    found["excess_variation"] = Interval(
        total.estimate - chance, total.standard_error, total.low - chance, total.high - chance, total.reason
    )
    data: dict[str, xr.Variable] = {}
    if groups is not None:
        found["class_share"], data["class_p_value"] = _classes(np.asarray(groups), np.sqrt(noise), confidence)
    for name, interval in found.items():
        long_name, definition, scale = _FACTS[name]
        data |= interval_variables(
            name, interval, ("step",), unit="1", long_name=long_name,
            definition=f"{definition}; {kind} noise", confidence=confidence, scale=scale,
            method="inverted noncentral F" if name == "class_share" else "jackknife",
        )  # fmt: skip
    chance_attrs = {"units": "1", "long_name": "variation by chance", "definition": f"2 / m, m = {how}"}
    data["chance_variation"] = xr.Variable(("step",), np.broadcast_to(chance, noise.shape[1:]).copy(), chance_attrs)
    limits = {"excess_variation": margin**2, "class_share": CLASS_MARGIN}
    for name in limits.keys() & found.keys():
        codes = equivalence(found[name].low, found[name].high, limits[name])
        data[f"{name}_verdict"] = verdict_variable(
            ("step",), codes, EQUIVALENCE, f"whether there is no {_FACTS[name][0]}", margin=limits[name]
        )
    return result_dataset(dataset, f"epsilon_sample_{kind}", data)


def _summands(values: Array) -> tuple[Array, ...]:
    """Of the count, the mean and the variance, relative to the mean of all samples."""
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = values / values.mean(0)
    return np.ones_like(values), relative, (relative - 1) ** 2


def _variation(n: Array, relative: Array, squares: Array) -> Array:
    """Squared coefficient of variation, the variance unbiased."""
    mean = relative / n
    return (squares / n - (mean - 1) ** 2) * n / (n - 1) / mean**2


def _log_correlation(noise: Array, signal: Array, confidence: float) -> Interval:
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = (np.log(values) - np.log(values).mean(0) for values in (noise, signal))

    def correlation(n: Array, x: Array, y: Array, xx: Array, xy: Array, yy: Array) -> Array:
        x, y = x / n, y / n
        return np.clip((xy / n - x * y) / np.sqrt((xx / n - x * x) * (yy / n - y * y)), -1, 1)

    sums = np.ones_like(x), x, y, x * x, x * y, y * y
    return interval_of_sums(correlation, *sums, scale=ARCTANH, confidence=confidence)


def _classes(groups: np.ndarray, deviation: Array, confidence: float) -> tuple[Interval, xr.Variable]:
    """Epsilon squared of a one-way analysis of variance, 1 - (1 - eta^2) (n - 1) / (n - classes), and its p-value."""
    names, members = np.unique(groups, return_inverse=True)
    if groups.shape != (len(deviation),) or len(names) < 2 or np.bincount(members).min() < 2:
        raise BadInput(
            "groups must name the class of every sample, two classes or more of two samples or more each",
            got=f"shape {groups.shape}, {len(names)} classes, for {len(deviation)} samples",
            fix="leave out classes of one sample, or run more",
        )
    centred = deviation - deviation.mean(0)
    is_member = (members[:, None] == np.arange(len(names))).astype(np.float64)[:, :, None]

    def share(n: Array, z: Array, zz: Array) -> Array:
        eta = _between(n, z) / _about_mean(n, z, zz)
        total = n.sum(-2)
        return 1 - (1 - eta) * (total - 1) / (total - len(names))

    sums = [np.broadcast_to(is_member, (*is_member.shape[:2], centred.shape[1])), is_member * centred[:, None]]
    sums.append(sums[1] * centred[:, None])
    interval = interval_of_sums(share, *sums, confidence=confidence)
    n, z, zz = (values.sum(0) for values in sums)
    between, within = _between(n, z), _about_mean(n, z, zz) - _between(n, z)
    freedom = len(names) - 1, len(groups) - len(names)
    with np.errstate(invalid="ignore", divide="ignore"):
        f = between / freedom[0] / (within / freedom[1])
        p = fdtrc(*freedom, f)
    low, high = (_share_at(level, f, freedom) for level in ((1 + confidence) / 2, (1 - confidence) / 2))
    undefined = interval.reason != 0
    interval = interval._replace(low=np.where(undefined, np.nan, low), high=np.where(undefined, np.nan, high))
    attrs = {"units": "1", "long_name": "p-value of equal noise in all classes", "definition": f"F{freedom}"}
    return interval, xr.Variable(("step",), p, attrs)


def _share_at(level: float, f: Array, freedom: tuple[int, int]) -> Array:
    """Share explained, nc / (nc + samples), under which the statistic F stays below ``f`` with probability ``level``.

    Inverts the noncentral F distribution by bisection over the share (Steiger 2004, Beyond the F test); 0 where even
    that of no effect does. The jackknife fails here, since the estimate's derivative vanishes where classes are alike.
    """
    samples = sum(freedom) + 1
    low, high = np.zeros_like(f), np.ones_like(f)
    for _ in range(60):
        middle = (low + high) / 2
        beyond = ncfdtr(*freedom, samples * middle / (1 - middle), f) > level  # falls as the share grows
        low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
    return np.where(fdtr(*freedom, f) > level, (low + high) / 2, 0.0)


def _between(n: Array, z: Array) -> Array:
    """Sum of squares of class means about the mean of all; classes on the axis before the last."""
    with np.errstate(invalid="ignore", divide="ignore"):
        own = np.where(n > 0, z**2 / n, 0.0)
    return own.sum(-2) - z.sum(-2) ** 2 / n.sum(-2)


def _about_mean(n: Array, z: Array, zz: Array) -> Array:
    return zz.sum(-2) - z.sum(-2) ** 2 / n.sum(-2)


def _elements_per_sample(dataset: xr.Dataset, kind: str) -> tuple[Array, str]:
    """Independent elements that one sample is worth, per step, and where the number comes from."""
    if f"noise_kept_{kind}" in dataset and dataset.sizes["kept"] >= LEAST:
        noise = kept_noise(dataset, kind, "varying")  # what all samples share does not vary between them
        return effective_size(noise, 2) / noise.shape[1], "elements / sum of autocorrelation^2, of kept samples"
    samples = dataset.sizes["sample"]
    elements = float(dataset["epsilon_count"].sum()) / samples
    return np.full(dataset.sizes["step"], elements), "all elements of a sample, taken for independent"


_FACTS = {
    "power_variation": (
        "variation of noise power between samples",
        "variance over samples of mean r^2 / squared mean", "logarithmic",
    ),
    "excess_variation": (
        "variation of noise power between samples beyond chance", "power_variation - chance_variation", "logarithmic",
    ),
    "signal_correlation": (
        "correlation of noise and signal power", "Pearson's r over samples of log mean r^2 and log mean y^2", "arctanh",
    ),
    "class_share": (
        "variation of noise between classes", "epsilon squared of root mean r^2 per sample by class", "noncentral F",
    ),
}  # fmt: skip
