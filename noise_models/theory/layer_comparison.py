"""Predicted against measured noise of every site, and why a prediction misses.

The cause of a miss is found by what repairs it: the predictors of ``noise_models.theory.layers`` replace one assumption
of the uniform model after the other by what was observed, and the first that is right again names the assumption.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import xarray as xr

from noise_models.correction.scope import require_disjoint, require_same_scope
from noise_models.inference.intervals import jackknife
from noise_models.inference.labelled import interval_variables
from noise_models.inference.pooling import block_sums
from noise_models.metrics import pooled_sqnr_db, sqnr_db
from noise_models.theory.layers import PREDICTORS, power_ratio_db
from samplers.errors import BadInput
from samplers.validation import require_real

CAUSES = (
    "none", "undefined", "clipping", "error_not_uniform", "error_follows_operand", "weights_are_one_draw",
    "errors_correlate",
)  # fmt: skip
"""Why ``uniform`` misses, by code.

- ``clipping``: right without its clipping; or nothing repairs it, less noise is predicted than measured, and the judged
  samples clip where the observed ones did not;
- ``error_not_uniform``: right with the operands' true error powers;
- ``error_follows_operand``: right once the errors' straight lines on the operand add up in amplitude;
- ``weights_are_one_draw``: right with the errors that the weights have, since few weights, or an input that hardly
  varies, do not average over them;
- ``errors_correlate``: none of these, so run-time operands' errors depend on each other within a sum.
"""
VERDICTS = ("within", "outside", "inconclusive")
"""Of a prediction against the interval of the measurement, by code."""


def compare_layers(
    predicted: xr.Dataset, measured: xr.Dataset, *, tolerance: float = 1.0, confidence: float = 0.95
) -> xr.Dataset:
    """Predicted against measured local noise, per step and site, and per site pooled over steps.

    Args:
        predicted: of :func:`predict_layers`, for the observed scheme.
        measured: of ``simulator.attribute`` on the same system, other samples.
        tolerance: dB.
        confidence: of the measured intervals.

    Returns:
        ``measured_sqnr_db`` (step, site) and ``site_measured_sqnr_db`` (site) with intervals;
        ``site_predicted_sqnr_db`` (predictor, site), powers pooled over steps before the ratio; ``error_db`` and
        ``site_error_db``, predicted minus measured; ``cause`` (step, site) and ``site_cause`` where ``uniform`` is off
        by more than ``tolerance``; ``site_verdict``: whether the error is within it for all of the measured interval.

    Raises:
        BadInput: the two are of different systems, of the same samples, or lack what is compared.
    """
    if require_real("tolerance", tolerance) <= 0:
        raise BadInput("tolerance must be above 0 dB", got=tolerance, fix="use 1")
    _require_comparable(predicted, measured)
    cells = sqnr_db(measured, "site_local", confidence=confidence)
    sums = block_sums(measured["site_local"], measured["site_count"], ("step",))
    pooled = jackknife(pooled_sqnr_db, sums, confidence=confidence)
    site = xr.Dataset(
        interval_variables(
            "site_measured_sqnr_db", pooled, sums.dims, unit="dB", long_name="measured SQNR of a site",
            definition="10 log10(sum y^2 / sum e^2) over steps and samples, of site_local", confidence=confidence,
            scale="dB",
        ),
        coords={"site": measured["site"]},
    )  # fmt: skip
    signal, noise = predicted["site_signal_power"].sum("step"), predicted["noise_power"].sum("step", skipna=False)
    site_predicted = _finite(power_ratio_db(signal, noise)).transpose("predictor", "site")
    error = _finite(predicted["sqnr_db"] - cells["sqnr_db"])
    site_error = _finite(site_predicted - site["site_measured_sqnr_db"])
    appeared = _clipping_appeared(predicted, measured)
    data = {f"measured_{name}": cells[name] for name in cells if str(name).startswith("sqnr_db")}
    data |= {str(name): site[name] for name in site.data_vars}
    data |= {
        "predicted_sqnr_db": predicted["sqnr_db"],
        "site_predicted_sqnr_db": site_predicted.assign_attrs(units="dB", long_name="predicted SQNR of a site"),
        "error_db": error.assign_attrs(units="dB", long_name="predicted minus measured SQNR"),
        "site_error_db": site_error.assign_attrs(units="dB", long_name="predicted minus measured SQNR of a site"),
        "cause": _cause(error, appeared, tolerance),
        "site_cause": _cause(site_error, appeared.any("step"), tolerance),
        "site_verdict": _verdict(site_predicted.sel(predictor="uniform", drop=True), site, tolerance),
        "reason": predicted["reason"],
    }
    keep = [name for name in ("timestep", "scheme", "model", "sampler") if name in measured or name in measured.coords]
    attrs = {"tolerance_db": tolerance, "confidence": confidence}
    return xr.Dataset(data, attrs=attrs).assign_coords({name: measured[name] for name in keep})


def shares_within(compared: xr.Dataset, limits: Sequence[float] = (1.0, 3.0)) -> xr.Dataset:
    """Share of cells (step, site) and of sites whose prediction is off by at most each limit, in dB.

    Returns:
        ``cells`` and ``sites`` over (predictor, limit_db), of those where both values are defined, whose numbers are
        ``cells_defined`` and ``sites_defined``.
    """
    data = {}
    for name, variable in (("cells", "error_db"), ("sites", "site_error_db")):
        error = abs(compared[variable])
        over = [dim for dim in error.dims if dim != "predictor"]
        defined = error.notnull().sum(over)
        within = [(error <= limit).sum(over) / defined.where(defined > 0) for limit in limits]
        data[name] = xr.concat(within, xr.Variable("limit_db", np.asarray(limits, float))).transpose("predictor", ...)
        data[f"{name}_defined"] = defined
    return xr.Dataset(data)


def _finite(values: xr.DataArray) -> xr.DataArray:
    return values.where(np.isfinite(values))


def _clipping_appeared(predicted: xr.Dataset, measured: xr.Dataset) -> xr.DataArray:
    """Where the judged samples clip and the observed ones did not."""
    observed = predicted["operand_clipped_share"].sum("operand") > 0
    return (measured["site_local_clipped"] > 0) & ~observed


def _cause(error: xr.DataArray, appeared: xr.DataArray, tolerance: float) -> xr.DataArray:
    within = abs(error) <= tolerance
    uniform = error.sel(predictor="uniform", drop=True)
    cause = xr.full_like(uniform, CAUSES.index("errors_correlate"), np.int8)
    cause = cause.where(~(appeared & (uniform > 0)), CAUSES.index("clipping"))
    repaired = dict(zip(PREDICTORS[1:], CAUSES[2:], strict=False))
    for predictor, name in reversed(repaired.items()):  # the first that fits is written last
        cause = cause.where(~within.sel(predictor=predictor, drop=True), CAUSES.index(name))
    cause = cause.where(~within.sel(predictor="uniform", drop=True), CAUSES.index("none"))
    cause = cause.where(uniform.notnull(), CAUSES.index("undefined")).astype(np.int8)
    flags = {"flag_values": np.arange(len(CAUSES), dtype=np.int8), "flag_meanings": " ".join(CAUSES)}
    return cause.assign_attrs({"units": "1", "long_name": "why the uniform prediction misses", **flags})


def _verdict(predicted: xr.DataArray, site: xr.Dataset, tolerance: float) -> xr.DataArray:
    low, high = (predicted - site[f"site_measured_sqnr_db_{end}"] for end in ("high", "low"))
    verdict = xr.full_like(predicted, VERDICTS.index("inconclusive"), np.int8)
    verdict = verdict.where(~((low > tolerance) | (high < -tolerance)), VERDICTS.index("outside"))
    verdict = verdict.where(~((low >= -tolerance) & (high <= tolerance)), VERDICTS.index("within")).astype(np.int8)
    flags = {"flag_values": np.arange(len(VERDICTS), dtype=np.int8), "flag_meanings": " ".join(VERDICTS)}
    return verdict.assign_attrs({"units": "1", "long_name": "verdict on the uniform prediction", **flags})


def _require_comparable(predicted: xr.Dataset, measured: xr.Dataset) -> None:
    wanted = {"site_local", "site_local_clipped", "site_count"} - set(measured)
    if wanted or "operands" not in predicted.get("predictor", ()):
        raise BadInput(
            "a comparison needs all predictors and a measured local noise", got=f"without {sorted(wanted)}",
            fix="use predict_layers without bits, and simulator.attribute",
        )  # fmt: skip
    if not np.array_equal(predicted["site"], measured["site"]) or predicted.sizes["step"] != measured.sizes["step"]:
        raise BadInput("both must have the same sites and steps", got="others", fix="use one network and one sampler")
    fit, use = (json.loads(dataset.attrs["config"]) for dataset in (predicted, measured))
    require_same_scope(fit, use)
    require_disjoint(fit, use)
