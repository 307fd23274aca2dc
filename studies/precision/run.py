"""Run a step-aware precision study: measure the candidates, make the policies, judge them on other samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from noise_models.correction.fitting import MIN_BLOCKS
from noise_models.precision.budget_rule import budgeted_policy
from noise_models.precision.candidates import Candidates
from noise_models.precision.comparison import compare_policies, uniform_policies
from noise_models.precision.gains import gains_named, gaussian_gains
from noise_models.precision.network_gains import network_gains
from noise_models.precision.policy import Policy, step_parts
from noise_models.precision.ptqd_rule import ptqd_policy
from noise_models.precision.sigmoid_rule import sigmoid_policy
from noise_models.propagation.error_recursion import require_linear
from samplers.errors import BadInput
from samplers.sampler import Sampler
from simulator.calibration.steps import StepSets
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.instrument.survey import survey
from simulator.models.conditioning import Conditioning
from simulator.models.registry import Model
from simulator.paired import Arm, run_arms
from studies.precision.job import NETWORK, PrecisionJob
from studies.precision.measuring import measure_candidates
from studies.precision.quality import QualityScale, measure_policies, quality_scale

GAIN_SAMPLES = 64
"""Trajectories that gains of the network are averaged over, at most."""

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Study:
    """A study that was checked: everything that bad input could break is already built.

    Attributes:
        budgets: by name, bit operations over all steps.
        gains: None for those of the network.
        scale: what images are measured on; None measures none.
    """

    job: PrecisionJob
    model: Model
    candidates: Candidates
    sampler: Sampler
    rules: tuple[str, ...]
    budgets: Mapping[str, int]
    gains: xr.DataArray | None
    conditioning: Conditioning | None
    scale: QualityScale | None = None


@dataclass(frozen=True)
class Found:
    """What a study found.

    Attributes:
        comparison: of ``compare_policies``, uniform widths first.
        table: of ``candidate_table``.
        policies: those of the rules, each different from every other and from the uniform widths.
        same: name of a policy that chose as another did -> that other's name; it was not run again.
        runs: of the comparison's policies, in its order.
        quality: of ``studies.quality.measurement.measure``, a sample set for each policy; None if none was asked for.
    """

    comparison: xr.Dataset
    table: xr.Dataset
    policies: tuple[Policy, ...]
    same: Mapping[str, str]
    runs: tuple[xr.Dataset, ...]
    quality: xr.Dataset | None = None


def plan_study(job: PrecisionJob, model: Model) -> Study:
    """Build candidates, sampler, gains and budgets.

    Raises:
        BadInput: any of them breaks its rule; a budget is below the cheapest candidate.
    """
    options, inner = job.options, job.job
    if inner.calibration_samples < MIN_BLOCKS:
        raise BadInput(
            f"calibration samples must be at least {MIN_BLOCKS}", got=inner.calibration_samples, fix="use more"
        )
    candidates = Candidates(tuple(Scheme.parse(text) for text in job.part.schemes), options.groups)
    sampler = job.part.build(model, inner.num_inference_steps)
    steps = len(sampler.updates)
    conditioning = inner.conditions()
    if conditioning is not None:
        conditioning.of(model, range(1))
    for parts in (options.parts, options.range_sets):
        step_parts(steps, parts)
    bops = candidates.bops(survey(model, conditioning=conditioning), model.module)
    rules = options.chosen_rules(candidates)
    gains = _gains(job, sampler)
    budgets = _budgets(job, candidates, bops, steps)
    scale = quality_scale(model, inner.model, options.quality_samples) if options.quality_samples else None
    return Study(job, model, candidates, sampler, rules, budgets, gains, conditioning, scale)


def _gains(job: PrecisionJob, sampler: Sampler) -> xr.DataArray | None:
    """None for those of the network, which take its work."""
    name = job.options.gains
    if name == NETWORK:
        require_linear(sampler)
        return None
    return gaussian_gains(sampler, job.options.data_variance) if name == "gaussian" else gains_named(name, sampler)


def _budgets(job: PrecisionJob, candidates: Candidates, bops: np.ndarray, steps: int) -> dict[str, int]:
    total = bops.sum(0) * steps
    own = dict(zip(candidates.names, total.tolist(), strict=True))
    least = int(bops.min(1).sum()) * steps
    between = [name for name, cost in own.items() if min(total) < cost < max(total)]
    found = {}
    for text in job.options.budgets or between or ("0.5",):
        if text in own:
            found[text] = own[text]
            continue
        try:
            share = float(text)
        except ValueError:
            share = float("nan")
        if not 0 < share <= 1:
            raise BadInput(
                "a budget is a candidate's name or a share of the dearest candidate, above 0 and up to 1",
                got=repr(text), fix=f"one of {', '.join(own)}, or 0.7",
            )  # fmt: skip
        found[text] = int(share * max(total))
    for text, budget in found.items():
        if budget < least and job.options.budgets:
            raise BadInput(
                f"a budget must allow the cheapest policy, {least / max(total):.4f} of the dearest candidate's cost",
                got=text, fix="raise it, or add a cheaper candidate",
            )  # fmt: skip
    return {text: max(budget, least) for text, budget in found.items()}


def execute_study(study: Study, report: Report, kernels_ready: Callable[[], None] = lambda: None) -> Found:
    """Measure on samples of the "calibrate" stream, judge on samples of the "evaluate" stream."""
    job = study.job.job
    common: dict[str, Any] = {"seed": job.seed, "batch_size": job.batch_size}
    fit_set: dict[str, Any] = {"samples": job.calibration_samples, **common}

    def progress(what: str) -> Callable[[int, int], None]:
        return lambda done, total: report(what, done, total)

    steps = len(study.sampler.updates)
    part = step_parts(steps, study.job.options.range_sets)
    ends = [int(np.flatnonzero(part == p)[-1]) + 1 for p in range(int(part[-1]) + 1)]
    ranges = calibrate_ranges(
        study.model, study.sampler, steps=StepSets.partition(*ends) if len(ends) > 1 else StepSets(),
        outputs=any(scheme.requantizes for scheme in study.candidates.schemes), conditioning=study.conditioning,
        progress=progress("calibrating ranges"), **fit_set,
    )  # fmt: skip
    kernels_ready()

    def network(scheme: Scheme) -> QuantizedModel:
        return QuantizedModel(study.model, scheme, ranges, conditioning=study.conditioning)

    table = measure_candidates(
        study.candidates, network, study.sampler, progress=progress("measuring candidates"), **fit_set
    )
    gains = study.gains
    if gains is None:
        gains = network_gains(
            study.model, study.sampler, samples=min(job.calibration_samples, GAIN_SAMPLES),
            conditioning=study.conditioning, **common,
        )  # fmt: skip
    uniform, policies, same = _distinct(make_policies(study, table, gains))
    arms = [Arm(network(study.candidates.schemes[int(policy.choice[0, 0])])) for policy in uniform]
    arms += [policy.arm(study.model, ranges, conditioning=study.conditioning) for policy in policies]
    runs = run_arms(
        arms, study.sampler, samples=job.samples, sites=False, progress=progress("sampling policies"), **common
    )
    chosen = [*uniform, *policies]
    if study.scale is None:
        return Found(compare_policies(chosen, runs, gains=gains), table, policies, same, runs)
    quality = measure_policies(
        study.scale, study.model, {policy.name: arm for policy, arm in zip(chosen, arms, strict=True)}, study.sampler,
        conditioning=study.conditioning, report=report, **common,
    )  # fmt: skip
    at = {"sample_set": [policy.name for policy in chosen], "reference": study.scale.reference}
    distances, count = quality.frechet.sel(at), int(quality.frechet_samples.sel(at)[0])
    comparison = compare_policies(chosen, runs, gains=gains, frechet_distance=distances.values.tolist())
    comparison["frechet_distance"].attrs |= {
        "units": distances.attrs["units"],
        "definition": f"{distances.attrs['definition']}; to {study.scale.reference}, {quality.attrs['features']}, "
        f"{quality.attrs['feature_dimension']} dimensions, {count} samples of either set",
    }
    return Found(comparison, table, policies, same, runs, quality)


def make_policies(study: Study, table: xr.Dataset, gains: xr.DataArray) -> tuple[Policy, ...]:
    """The policies of every rule, and of every budget."""
    options, candidates = study.job.options, study.candidates
    found: list[Policy] = []
    for rule in study.rules:
        if rule == "sigmoid":
            found.append(
                sigmoid_policy(
                    candidates, table, base_bits=options.base_bits, kind=options.importance, gains=gains,
                    rounding=options.rounding, seed=study.job.job.seed, name=f"sigmoid-{options.rounding}",
                )
            )  # fmt: skip
        elif rule.startswith("ptqd-"):
            reading = rule.removeprefix("ptqd-")
            found.append(
                ptqd_policy(
                    candidates, table, reading=reading, margin_db=options.margin_db, parts=options.parts, name=rule
                )
            )
        else:
            found += [
                budgeted_policy(
                    candidates, table, budget, gains, method=rule, parts=options.parts, name=f"{rule}-{text}"
                )
                for text, budget in study.budgets.items()
            ]
    return tuple(found)


def _distinct(policies: Sequence[Policy]) -> tuple[tuple[Policy, ...], tuple[Policy, ...], dict[str, str]]:
    """Uniform widths, policies that choose as none before does, and the others by the name of the one they equal."""
    uniform = uniform_policies(policies[0].candidates, policies[0].table)
    known = {policy.choice.tobytes(): policy.name for policy in uniform}
    kept, same = [], {}
    for policy in policies:
        key = policy.choice.tobytes()
        if key in known:
            same[policy.name] = known[key]
        else:
            known[key] = policy.name
            kept.append(policy)
    return uniform, tuple(kept), same
