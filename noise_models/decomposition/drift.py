"""Drift: how slope, bias and residual variance change between two records of the same samples.

By default from injected to accumulated noise of one run: PTQD fits on the full-precision trajectory and corrects along
the quantized one, which is right only where these agree. With a corrected run beside an uncorrected one, what the
correction changed. Both records hold the same samples, so that differences are formed block by block: their intervals
are narrower than those of two unrelated runs.
"""

from __future__ import annotations

import json

import xarray as xr

from noise_models.correction.scope import require_same_scope
from noise_models.decomposition.split import channel_bias, residual_variance, slope, split
from noise_models.inference.intervals import LOG
from noise_models.inference.labelled import interval_variables, meaning, result_dataset
from noise_models.inference.pooling import Array, Pooled
from noise_models.inference.replication import Statistic, intervals
from noise_models.inference.verdicts import DIRECTION, direction, verdict_variable
from samplers.errors import BadInput


def measure_drift(
    dataset: xr.Dataset,
    variable: str = "epsilon_accumulated",
    *,
    base: xr.Dataset | None = None,
    base_variable: str = "epsilon_injected",
    method: str = "jackknife",
    confidence: float = 0.95,
) -> xr.Dataset:
    """Change of the decomposition's quantities from a base record to another of the same samples, with intervals.

    Args:
        dataset: one run's, with a correction or without.
        variable: moments of epsilon whose change is asked for.
        base: the run that changes are against; ``dataset`` itself if None, else one that differs in its correction
            alone.
        base_variable: moments of epsilon in ``base``.
        method: ``jackknife`` or ``bootstrap``.
        confidence: nominal coverage.

    Returns:
        ``slope_change`` (step,) and ``bias_change`` (step, channel), differences, and ``residual_variance_ratio``
        (step,), a quotient; each with standard error, ends and reason, and ``_verdict``: ``rises``, ``falls`` or
        ``inconclusive``.

    Raises:
        BadInput: a variable was not recorded, or the runs do not share system and samples.
    """
    base = dataset if base is None else base
    _require_same_samples(base, dataset)
    return changes(dataset, variable, base, base_variable, method=method, confidence=confidence)


def changes(
    dataset: xr.Dataset,
    variable: str,
    base: xr.Dataset,
    base_variable: str,
    *,
    method: str = "jackknife",
    confidence: float = 0.95,
) -> xr.Dataset:
    """:func:`measure_drift` of two records whose caller has seen to it that they hold the same samples."""
    sums = (*split(base, base_variable), *split(dataset, variable))
    found = intervals(_STATISTICS, *sums, method=method, confidence=confidence)
    data: dict[str, xr.Variable] = {}
    for name, interval in found.items():
        long_name, definition, scale, null = _FACTS[name]
        dims = sums[1].dims if name == "bias_change" else sums[0].dims
        data |= interval_variables(
            name,
            interval,
            dims,
            unit="1",
            long_name=long_name,
            definition=f"{definition}, of {variable} against {base_variable}; {meaning(variable)}",
            confidence=confidence,
            scale=scale,
            method=method,
        )
        data[f"{name}_verdict"] = verdict_variable(
            dims, direction(interval.low, interval.high, null), DIRECTION, f"verdict on {long_name}", null=null
        )
    return result_dataset(dataset, variable, data).assign_attrs(base=base_variable)


def _slope_change(base: Pooled, _: Pooled, pooled: Pooled, __: Pooled) -> Array:
    return slope(pooled) - slope(base)


def _bias_change(base: Pooled, base_channels: Pooled, pooled: Pooled, channels: Pooled) -> Array:
    return channel_bias(channels, slope(pooled)) - channel_bias(base_channels, slope(base))


def _variance_ratio(base: Pooled, base_channels: Pooled, pooled: Pooled, channels: Pooled) -> Array:
    return residual_variance(channels, slope(pooled)) / residual_variance(base_channels, slope(base))


def _require_same_samples(base: xr.Dataset, dataset: xr.Dataset) -> None:
    if base is dataset:
        return
    first, second = (json.loads(one.attrs.get("config", "{}")) for one in (base, dataset))
    for field in ("purpose", "seed", "samples"):
        if first.get(field) != second.get(field):
            raise BadInput(
                f"runs that are compared sample by sample must have one {field}",
                got=f"{first.get(field)!r} and {second.get(field)!r}",
                fix="run both on the same noise stream",
            )
    require_same_scope(first, second, "a comparison")


_STATISTICS = {
    "slope_change": Statistic(_slope_change),
    "bias_change": Statistic(_bias_change),
    "residual_variance_ratio": Statistic(_variance_ratio, LOG),
}
_FACTS = {
    "slope_change": ("change of the slope of noise on signal", "difference of k", "its own", 0.0),
    "bias_change": ("change of the bias of noise", "difference of the mean of e - k y per channel", "its own", 0.0),
    "residual_variance_ratio": (
        "ratio of residual noise variances", "quotient of the variances of e - k y", "logarithmic", 1.0,
    ),
}  # fmt: skip
