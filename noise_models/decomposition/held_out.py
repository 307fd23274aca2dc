"""Held-out evaluation: a prediction of the noise is fitted on one run, and judged on samples that it never saw."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

from noise_models.correction.fitting import calibration_config
from noise_models.correction.scope import require_disjoint, require_same_scope
from noise_models.decomposition.predictors import PREDICTORS, Left
from noise_models.decomposition.split import split
from noise_models.inference.intervals import LOG, Interval
from noise_models.inference.labelled import interval_variables, meaning, result_dataset
from noise_models.inference.pooling import Array, Pooled
from noise_models.inference.replication import Statistic, intervals
from noise_models.inference.verdicts import DIRECTION, direction, verdict_variable
from samplers.errors import BadInput
from samplers.validation import require_choice


def evaluate_held_out(
    fit: xr.Dataset,
    use: xr.Dataset,
    predictor: str = "ptqd",
    *,
    variable: str = "epsilon_injected",
    method: str = "jackknife",
    confidence: float = 0.95,
) -> xr.Dataset:
    """Power of the noise on held-out samples, before and after a fitted prediction is taken from it.

    explained_share = 1 - unexplained_power / noise_power; below 0 where the prediction does harm. Its interval is that
    of the ratio, formed on the logarithmic scale. Intervals are over the held-out samples, for this very fit: what
    another calibration set would give is no part of them.

    Args:
        fit: run of purpose "calibrate" without a correction, 8 samples or more; fitted on its injected noise.
        use: run of the same model, scheme, ranges, sampler and state on other samples, without a correction.
        predictor: a name in ``noise_models.decomposition.predictors.PREDICTORS``.
        variable: what of ``use`` to judge on; ``epsilon_accumulated`` asks whether the fit survives the quantized
            trajectory.
        method: ``jackknife`` or ``bootstrap``.
        confidence: nominal coverage.

    Returns:
        ``noise_power``, ``unexplained_power`` and ``explained_share`` (step,), each with standard error, ends and
        reason, and ``noise_verdict``: ``falls`` or ``rises`` where the whole interval says so, else ``inconclusive``.

    Raises:
        BadInput: one of the runs is not such a run, or the two do not belong together.
    """
    require_choice("predictor", predictor, tuple(PREDICTORS))
    require_choice("variable", variable, ("epsilon_injected", "epsilon_accumulated"))
    left = PREDICTORS[predictor](*_fitted(fit, use))
    if not np.isfinite(left.gamma).all():
        raise BadInput(
            "a fit needs epsilon to be finite and to vary at every step",
            got="a run where it does not",
            fix="check the model, and that the run did not diverge",
        )
    found = intervals(_statistics(left), split(use, variable)[1], method=method, confidence=confidence)
    ratio = found.pop("ratio")
    found["explained_share"] = Interval(
        1 - ratio.estimate, ratio.standard_error, 1 - ratio.high, 1 - ratio.low, ratio.reason
    )
    data: dict[str, xr.Variable] = {}
    for name, interval in found.items():
        long_name, definition, scale = _FACTS[name]
        data |= interval_variables(
            name,
            interval,
            ("step",),
            unit="1",
            long_name=long_name,
            definition=f"{definition}; predictor {predictor}, fitted on other samples; {meaning(variable)}",
            confidence=confidence,
            scale=scale,
            method=method,
        )
    data["noise_verdict"] = verdict_variable(
        ("step",), direction(ratio.low, ratio.high, 1.0), DIRECTION, "verdict on the power of the noise", null=1.0
    )
    result = result_dataset(use, variable, data)
    return result.assign_coords(predictor=predictor)


def _statistics(left: Left) -> dict[str, Statistic]:
    nothing = Left(np.ones(1), np.zeros(1), np.zeros(1))

    def ratio(channels: Pooled) -> Array:
        return left.power(channels) / nothing.power(channels)

    return {
        "noise_power": Statistic(nothing.power, LOG),
        "unexplained_power": Statistic(left.power, LOG),
        "ratio": Statistic(ratio, LOG),
    }


def _fitted(fit: xr.Dataset, use: xr.Dataset) -> tuple[Pooled, Pooled]:
    """Pooled moments that a fit may use, after every rule on the two runs."""
    fitted = calibration_config(fit)
    if "config" not in use.attrs:
        raise BadInput(
            "use must be one run's dataset", got=f"attributes {', '.join(use.attrs) or 'none'}",
            fix="pass what simulator.run returns",
        )  # fmt: skip
    used = json.loads(use.attrs["config"])
    if used["correction"]["name"] != "none":
        raise BadInput(
            "use must be a run without a correction", got=used["correction"]["name"],
            fix="run the quantized network as it is",
        )  # fmt: skip
    require_same_scope(fitted, used, "a prediction")
    require_disjoint(fitted, used, "a prediction")
    pooled, channels = split(fit, "epsilon_injected")
    return pooled.total(), channels.total()


_FACTS = {
    "noise_power": ("power of noise", "mean of e^2 over all elements", "logarithmic"),
    "unexplained_power": ("power of unexplained noise", "mean square of what the prediction leaves", "logarithmic"),
    "explained_share": ("share of noise power explained", "1 - unexplained_power / noise_power", "logarithmic"),
}
