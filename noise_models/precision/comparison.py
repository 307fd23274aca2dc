"""Policies and uniform widths side by side: bit operations against the noise of the final sample."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from noise_models.correction.scope import require_equal
from noise_models.inference.intervals import LOG, PLAIN, Interval, Scale, jackknife
from noise_models.inference.labelled import channel_dims, interval_variables, recorded
from noise_models.inference.pooling import Array, BlockSums, Pooled, block_sums
from noise_models.metrics import pooled_sqnr_db
from noise_models.precision.candidates import Candidates
from noise_models.precision.gains import require_gains
from noise_models.precision.policy import Policy
from samplers.errors import BadInput

_FINAL = "y = final sample of full precision, e = quantized one - y, each on its own trajectory, on shared noise"
_INJECTED = "y = epsilon, e = quantized epsilon - epsilon at the same x_t"


def compare_policies(
    policies: Sequence[Policy],
    runs: Sequence[xr.Dataset],
    *,
    gains: Any = None,
    frechet_distance: Sequence[float] | None = None,
    confidence: float = 0.95,
) -> xr.Dataset:
    """The table of policies: what each costs, and what it leaves of the final sample.

    Args:
        policies: of one table, of different names; a uniform width is a policy too (:func:`uniform_policies`).
        runs: the evaluation run of each, in their order, on the same noise, with injected and accumulated noise.
        gains: (step,) with which the final noise is predicted; None predicts nothing.
        frechet_distance: of each, where a study has measured it; stored beside the rest.
        confidence: nominal coverage of the intervals.

    Returns:
        Over ``policy``: ``total_bops``, ``mean_activation_bits``, ``final_sqnr_db`` and ``final_noise_power`` with
        intervals, ``final_median_db`` (over samples, of each one's own SQNR: the pooled one may be ruled by one sample
        that left the calibrated range), ``predicted_noise_power``, ``frechet_distance``; over (policy, step):
        ``injected_sqnr_db`` with its interval, ``step_bops``; over (policy, step, group): ``activation_bits``; over
        (policy, baseline): ``final_difference_db``, final SQNR of the policy minus that of the uniform width, paired on
        shared noise, with its interval.

    Raises:
        BadInput: runs that are not those of the policies, or not on the same samples.
    """
    names = [policy.name for policy in policies]
    if not names or len(set(names)) < len(names):
        raise BadInput("policies must have different names, one at least", got=names, fix="rename them")
    _require_paired(names, runs)
    final = [_sums(run, "state_accumulated") for run in runs]
    injected = [_sums(run, "epsilon_injected") for run in runs]
    first = policies[0]
    data: dict[str, Any] = {
        "total_bops": _variable([p.total_bops for p in policies], "bit operations", "per sample, over all steps"),
        "mean_activation_bits": _variable(
            [p.mean_activation_bits for p in policies], "mean activation bits",
            "of the candidates' settings, over steps, groups weighted by their bit operations", "bit",
        ),
        "step_bops": _variable([p.bops for p in policies], "bit operations", "per sample and step", dims=("step",)),
        "activation_bits": _variable(
            [p.activation_bits for p in policies], "activation bits", "of the chosen candidate", "bit",
            ("step", "group"),
        ),
    }  # fmt: skip
    data["final_median_db"] = _variable(
        [_median_db(run) for run in runs], "median SQNR of final samples", f"median over samples; {_FINAL}", "dB"
    )
    ratio = "10 log10(sum y^2 / sum e^2), pooled over elements, channels and samples"
    data |= _stacked(
        "final_sqnr_db",
        _jackknifed(final, pooled_sqnr_db, PLAIN, confidence),
        ("policy",),
        unit="dB",
        long_name="SQNR of the final sample",
        definition=f"{ratio}; {_FINAL}",
        confidence=confidence,
    )
    data |= _stacked(
        "final_noise_power",
        _jackknifed(final, _power, LOG, confidence),
        ("policy",),
        unit="1",
        long_name="noise power of the final sample",
        definition=f"mean of e^2; {_FINAL}",
        confidence=confidence,
        scale=LOG.name,
    )
    data |= _stacked(
        "injected_sqnr_db", _jackknifed(injected, pooled_sqnr_db, PLAIN, confidence), ("policy", "step"), unit="dB",
        long_name="SQNR of injected noise", definition=f"{ratio}; {_INJECTED}", confidence=confidence,
    )  # fmt: skip
    baselines = [i for i, policy in enumerate(policies) if policy.rule.get("rule") == "uniform"]
    if baselines:
        data |= _differences(final, baselines, confidence)
    if gains is not None:
        gain = require_gains(gains, first.table)
        data["predicted_noise_power"] = _variable(
            [p.predicted_noise(gain) for p in policies], "predicted noise power of the final sample",
            "sum over steps of gain times the injected noise power of the calibration samples",
        )  # fmt: skip
        data["gain"] = xr.Variable(("step",), gain, {"units": "1", "long_name": "gain of injected noise"})
    if frechet_distance is not None:
        if len(frechet_distance) != len(names):
            raise BadInput("one Frechet distance per policy", got=len(frechet_distance), fix="NaN where it is unknown")
        data["frechet_distance"] = _variable(
            [float(value) for value in frechet_distance], "Frechet distance", "as the study that measured it defines it"
        )
    coords = {"policy": names, "group": first.table.group.values, "timestep": runs[0]["timestep"]}
    if baselines:
        coords["baseline"] = [names[i] for i in baselines]
    config = json.loads(runs[0].attrs["config"])
    rules = {policy.name: dict(policy.rule) for policy in policies}
    attrs = {"rules": json.dumps(rules, sort_keys=True), "config": json.dumps(_shared(config), sort_keys=True)}
    return xr.Dataset(data, coords, attrs)


def uniform_policies(candidates: Candidates, table: xr.Dataset) -> tuple[Policy, ...]:
    """Every candidate at all steps, cheapest first: the baselines. They run as the candidates' own schemes."""
    steps, groups = table.sizes["step"], table.sizes["group"]
    found = [
        Policy(name, candidates, np.full((steps, groups), index), table, {"rule": "uniform"})
        for index, name in enumerate(candidates.names)
    ]
    return tuple(sorted(found, key=lambda policy: policy.total_bops))


def _sums(run: xr.Dataset, variable: str) -> BlockSums:
    moments, count = recorded(run, variable)
    return block_sums(moments, count, channel_dims(moments))


def _median_db(run: xr.Dataset) -> float:
    moments = run["state_sample_accumulated"].isel(step=-1).rename(sample="block")
    equal = xr.ones_like(moments.isel(moment=0, drop=True))  # channels are of equal size
    return float(np.median(pooled_sqnr_db(block_sums(moments, equal, channel_dims(moments)).each())))


def _power(pooled: Pooled) -> Array:
    return pooled.power_e


def _require_paired(names: Sequence[str], runs: Sequence[xr.Dataset]) -> None:
    configs = [json.loads(run.attrs["config"]) for run in runs]
    found = [config["scheme"] for config in configs]
    if found != list(names):
        raise BadInput("the runs must be those of the policies, in their order", got=found, fix=f"run {names}")
    for other in configs[1:]:
        require_equal(_shared(configs[0]), _shared(other), "policies are compared in one system, on the same samples")


def _shared(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in ("scheme", "scheme_config", "correction")}


def _jackknifed(sums: Sequence[BlockSums], statistic: Any, scale: Scale, confidence: float) -> list[Interval]:
    return [jackknife(statistic, each, scale=scale, confidence=confidence) for each in sums]


def _stacked(name: str, found: Sequence[Interval], dims: tuple[str, ...], **facts: Any) -> dict[str, xr.Variable]:
    """Intervals one behind the other; of those over steps only the last step, where ``dims`` has none."""
    last = "step" not in dims
    parts = [np.stack([part[-1] if last else part for part in column]) for column in zip(*found, strict=True)]
    return interval_variables(name, Interval(*parts), dims, **facts)


def _differences(final: Sequence[BlockSums], baselines: Sequence[int], confidence: float) -> dict[str, xr.Variable]:
    def difference(own: Pooled, other: Pooled) -> Array:
        return pooled_sqnr_db(own) - pooled_sqnr_db(other)

    found = [jackknife(difference, own, final[i], confidence=confidence) for own in final for i in baselines]
    shape = (len(final), len(baselines))
    parts = [np.stack([part[-1] for part in column]).reshape(shape) for column in zip(*found, strict=True)]
    return interval_variables(
        "final_difference_db", Interval(*parts), ("policy", "baseline"), unit="dB",
        long_name="final SQNR above a uniform width's",
        definition=f"final_sqnr_db of the policy minus that of the baseline, on the same samples; {_FINAL}",
        confidence=confidence,
    )  # fmt: skip


def _variable(
    values: Any, long_name: str, definition: str, units: str = "1", dims: tuple[str, ...] = ()
) -> xr.Variable:
    attrs = {"units": units, "long_name": long_name, "definition": definition}
    return xr.Variable(("policy", *dims), np.asarray(values), attrs)
