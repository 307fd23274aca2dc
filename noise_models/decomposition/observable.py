"""D2-DPM's statistics: noise given what can be observed, the quantized prediction itself.

Per step (epsilon^, Delta), epsilon^ = epsilon + Delta, is taken for jointly Gaussian, so that

    E[Delta | epsilon^] = mu_Delta + rho (s_Delta / s_epsilon^) (epsilon^ - mu_epsilon^),   rho clipped to +-0.9999,
    Var[Delta | epsilon^] = s_Delta^2 (1 - rho^2).

PTQD's line regresses on epsilon, which a deployed network does not have; this one regresses on its output. Both are
linear in (y, e), so the recorded joint moments of y = epsilon and e = Delta give it exactly: var(y + e) = yy + 2 ye +
ee, cov(y + e, e) = ye + ee.

The method drops outliers, elements more than 4 standard deviations from the mean, before it fits. Moments cannot drop
an element. ``outliers="kept"`` is the fit to all elements of all samples; ``outliers="removed"`` does drop them, once,
where epsilon^ or Delta is that far from its own mean, and so needs samples kept whole (``run(..., subsample=64)``) and
sees those alone. For a Gaussian, removal takes 0.006 % of elements and 0.1 % of the variance; ``removed_share`` says
what it took here.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from noise_models.assumptions.kept import kept_pair
from noise_models.decomposition.split import correlation, split
from noise_models.inference.intervals import ARCTANH, LOG, PLAIN, Interval
from noise_models.inference.labelled import interval_variables, meaning, result_dataset
from noise_models.inference.pooling import Array, Pooled
from noise_models.inference.replication import Statistic, interval_of_sums, intervals
from samplers.errors import BadInput
from samplers.validation import require_choice

LIMIT = 0.9999
"""Of |rho|, so that some variance is left."""

CUT = 4.0
"""Standard deviations beyond which an element is an outlier."""

OUTLIERS = ("kept", "removed")


def observed(pooled: Pooled) -> Pooled:
    """Moments of (y + e, e) from those of (y, e), to second order."""
    c = pooled.central
    central = {(2, 0): c[2, 0] + 2 * c[1, 1] + c[0, 2], (1, 1): c[1, 1] + c[0, 2], (0, 2): c[0, 2]}
    return Pooled(pooled.count, pooled.mean_y + pooled.mean_e, pooled.mean_e, central)


def clipped_correlation(pooled: Pooled) -> Array:
    """rho of epsilon^ and Delta, within +-0.9999; NaN where either does not vary."""
    return np.clip(correlation(pooled), -LIMIT, LIMIT)


def observable_slope(pooled: Pooled) -> Array:
    """rho s_Delta / s_epsilon^, from moments of (epsilon^, Delta); 0 where there is no noise, NaN without signal."""
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = clipped_correlation(pooled) * np.sqrt(pooled.variance_e / pooled.variance_y)
    return np.where((pooled.variance_e == 0) & (pooled.variance_y > 0), 0.0, slope)


def conditional_variance(pooled: Pooled) -> Array:
    """s_Delta^2 (1 - rho^2), from moments of (epsilon^, Delta)."""
    rho = np.where(pooled.variance_e == 0, 0.0, clipped_correlation(pooled))
    return pooled.variance_e * (1 - rho**2)


def decompose_observable(
    dataset: xr.Dataset,
    variable: str = "epsilon_injected",
    *,
    by: str = "step",
    outliers: str = "kept",
    method: str = "jackknife",
    confidence: float = 0.95,
) -> xr.Dataset:
    """The joint Gaussian of quantized output and noise, and what the output tells of the noise, with intervals.

    Args:
        dataset: one run's.
        variable: ``epsilon_injected`` or ``epsilon_accumulated``.
        by: ``step``, over all elements of a step; ``channel``, each channel by itself.
        outliers: ``kept`` or ``removed``, see above.
        method: ``jackknife`` or ``bootstrap``; removal has the jackknife alone.
        confidence: nominal coverage.

    Returns:
        ``mean_output``, ``mean_noise``, ``deviation_output``, ``deviation_noise``, ``rho``, ``slope`` = rho s_Delta /
        s_epsilon^, ``conditional_variance``, each with standard error, ends and reason, over (step,) or (step,
        channel); with removal ``removed_share`` as well.

    Raises:
        BadInput: ``variable`` was not recorded, no samples kept for removal, or an unknown choice.
    """
    require_choice("by", by, ("step", "channel"))
    require_choice("outliers", outliers, OUTLIERS)
    if variable not in ("epsilon_injected", "epsilon_accumulated"):
        raise BadInput(
            "the statistics of D2-DPM are those of epsilon", got=variable, fix="use epsilon_injected or _accumulated"
        )
    pooled, channels = split(dataset, variable)
    dims = pooled.dims if by == "step" else channels.dims
    if outliers == "kept":
        found = intervals(
            {name: Statistic(lambda p, of=of: of(observed(p)), scale) for name, (of, scale, *_) in _QUANTITIES.items()},
            pooled if by == "step" else channels,
            method=method,
            confidence=confidence,
        )
        data: dict[str, xr.Variable] = {}
        among = "all elements"
    else:
        require_choice("method with outliers removed", method, ("jackknife",))
        found, share = _removed(dataset, variable.removeprefix("epsilon_"), by, confidence)
        attrs = {"units": "1", "long_name": "share of elements removed", "definition": f"beyond {CUT:g} deviations"}
        data = {"removed_share": xr.Variable(dims, share, attrs)}
        among = f"elements of kept samples within {CUT:g} deviations"
    for name, interval in found.items():
        _, scale, long_name, definition = _QUANTITIES[name]
        data |= interval_variables(
            name,
            interval,
            dims,
            unit="1",
            long_name=long_name,
            definition=f"{definition}, over {among}; {meaning(variable)}",
            confidence=confidence,
            scale=scale.name,
            method=method,
        )
    return result_dataset(dataset, variable, data)


def _removed(dataset: xr.Dataset, kind: str, by: str, confidence: float) -> tuple[dict[str, Interval], Array]:
    y, e = kept_pair(dataset, kind, what="removal of outliers")
    over = (1, 2, 3, 4) if by == "step" else (1, 3, 4)
    output = y + e
    inside = np.ones(e.shape, bool)
    centre = []
    for values in (output, e):
        mean, deviation = values.mean(over, keepdims=True), values.std(over, keepdims=True)
        inside &= np.abs(values - mean) <= CUT * deviation
        centre.append(mean)
    u, v = ((values - mean) * inside for values, mean in zip((output, e), centre, strict=True))
    within = over[1:]
    sums = [np.moveaxis(terms.sum(within), 1, 0) for terms in (inside.astype(float), u, v, u * u, u * v, v * v)]
    mean_u, mean_v = (mean.squeeze(over) for mean in centre)

    def of_sums(n: Array, u: Array, v: Array, uu: Array, uv: Array, vv: Array) -> Pooled:
        u, v = u / n, v / n
        central = {(2, 0): uu / n - u * u, (1, 1): uv / n - u * v, (0, 2): vv / n - v * v}
        return Pooled(n, mean_u + u, mean_v + v, central)

    found = {
        name: interval_of_sums(lambda *s, of=of: of(of_sums(*s)), *sums, scale=scale, confidence=confidence)
        for name, (of, scale, *_) in _QUANTITIES.items()
    }
    return found, 1 - inside.mean(over)


_QUANTITIES: dict[str, tuple] = {
    "mean_output": (lambda p: p.mean_y, PLAIN, "mean of the quantized output", "mu of epsilon^"),
    "mean_noise": (lambda p: p.mean_e, PLAIN, "mean of the noise", "mu of Delta"),
    "deviation_output": (lambda p: np.sqrt(p.variance_y), LOG, "deviation of the quantized output", "s of epsilon^"),
    "deviation_noise": (lambda p: np.sqrt(p.variance_e), LOG, "deviation of the noise", "s of Delta"),
    "rho": (
        clipped_correlation, ARCTANH,
        "correlation of noise and quantized output", f"Pearson's r of epsilon^ and Delta, clipped to +-{LIMIT}",
    ),
    "slope": (observable_slope, PLAIN, "slope of noise on the quantized output", "rho s_Delta / s_epsilon^"),
    "conditional_variance": (
        conditional_variance, LOG, "variance of noise given the quantized output", "s_Delta^2 (1 - rho^2)",
    ),
}  # fmt: skip
