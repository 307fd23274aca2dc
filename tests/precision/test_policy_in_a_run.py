"""Claim: a policy runs as measured, holds for nothing else, and its table says what it cost and what it left."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import xarray as xr

from noise_models.correction.ptqd import PTQD
from noise_models.correction.ptqd_fit import fit_ptqd
from noise_models.metrics import sqnr_db
from noise_models.precision.budget_rule import budgeted_policy
from noise_models.precision.candidates import Candidates
from noise_models.precision.comparison import compare_policies, uniform_policies
from noise_models.precision.gains import gaussian_gains
from noise_models.precision.measurement import candidate_table
from noise_models.precision.policy import InScope, Policy
from samplers import DDIM
from samplers.errors import BadInput
from simulator.calibration.steps import StepSets
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.paired import Arm, run, run_arms

STEPS = 4
FIT = {"samples": 16, "purpose": "calibrate", "kinds": ("injected",), "sites": False}


@dataclasses.dataclass
class System:
    model: object
    sampler: DDIM
    ranges: object
    candidates: Candidates
    runs: tuple[xr.Dataset, ...]
    table: xr.Dataset


@pytest.fixture(scope="module")
def system(tiny_model, one_thread) -> System:
    sampler = DDIM(tiny_model.schedule, STEPS, eta=0.5)
    ranges = calibrate_ranges(tiny_model, sampler, samples=16, steps=StepSets.partition(2, STEPS))
    candidates = Candidates(tuple(Scheme.parse(name) for name in ("w4a3", "w4a5", "w4a8")))
    networks = [QuantizedModel(tiny_model, scheme, ranges) for scheme in candidates.schemes]
    runs = run_arms([Arm(network) for network in networks], sampler, **FIT)
    bops = candidates.bops(networks[0].sites, tiny_model.module)
    return System(tiny_model, sampler, ranges, candidates, runs, candidate_table(candidates, runs, bops))


@pytest.fixture(scope="module")
def policy(system) -> Policy:
    return Policy("by-hand", system.candidates, np.array([[0], [2], [1], [1]]), system.table)


@pytest.fixture(scope="module")
def compared(system, policy) -> tuple[tuple[Policy, ...], tuple[xr.Dataset, ...]]:
    policies = (*uniform_policies(system.candidates, system.table), policy)
    networks = [QuantizedModel(system.model, scheme, system.ranges) for scheme in system.candidates.schemes]
    arms = [*(Arm(network) for network in networks), policy.arm(system.model, system.ranges)]
    return policies, run_arms(arms, system.sampler, samples=16, sites=False)


def test_candidate_table__holds_the_recorded_noise_of_each_candidate(system) -> None:
    for index, dataset in enumerate(system.runs):
        own = system.table.isel(group=0, candidate=index)
        expected = sqnr_db(dataset)
        for name in ("sqnr_db", "sqnr_db_low", "sqnr_db_high"):
            np.testing.assert_array_equal(own[name], expected[name])
        np.testing.assert_allclose(own.noise_power, own.signal_power / 10 ** (expected.sqnr_db / 10), rtol=1e-12)
        assert (own.noise_power_low < own.noise_power).all()
    assert system.table.activation_bits.values.tolist() == [3, 5, 8]
    assert (np.diff(system.table.bops[0]) > 0).all()


def test_policy__injects_at_each_step_the_noise_of_its_choice(system, policy) -> None:
    found = run(policy.arm(system.model, system.ranges), system.sampler, samples=16, kinds=("injected",), sites=False)
    uniform = run_arms(
        [Arm(QuantizedModel(system.model, scheme, system.ranges)) for scheme in system.candidates.schemes],
        system.sampler, samples=16, kinds=("injected",), sites=False,
    )  # fmt: skip
    for step, index in enumerate(policy.choice[:, 0]):
        same = uniform[index].epsilon_injected[step]
        np.testing.assert_array_equal(found.epsilon_injected[step], same)


def test_policy__counts_bits_and_operations(policy) -> None:
    assert policy.activation_bits[:, 0].tolist() == [3, 8, 5, 5]
    assert policy.mean_activation_bits == 21 / 4
    low, middle, high = policy.table.bops.values[0]
    assert policy.bops.tolist() == [low, high, middle, middle]
    assert policy.total_bops == low + high + 2 * middle
    written = policy.dataset()
    assert written.activation_bits[:, 0].values.tolist() == [3, 8, 5, 5]
    assert written.attrs["policy"] == "by-hand"


def other_sampler(system, **changes):
    return dataclasses.replace(system.sampler, **changes)


def test_run__refuses_a_policy_outside_its_scope(system, policy) -> None:
    arm = policy.arm(system.model, system.ranges)
    for changes, field in (({"num_inference_steps": STEPS + 1}, r"num_inference_steps"), ({"eta": 0.0}, r"eta")):
        with pytest.raises(BadInput, match=f"a policy holds only .*{field}"):
            run(arm, other_sampler(system, **changes), samples=2)
    with pytest.raises(BadInput, match="samples that judge a policy"):
        run(arm, system.sampler, samples=2, purpose="calibrate")
    with pytest.raises(BadInput, match="ranges"):
        run(
            policy.arm(system.model, calibrate_ranges(system.model, system.sampler, samples=9)),
            system.sampler,
            samples=2,
        )
    another = Policy("by-hand", system.candidates, policy.choice[::-1], system.table)
    with pytest.raises(BadInput, match="runs as its own scheme"):
        run(dataclasses.replace(arm, quantized=another.arm(system.model, system.ranges).quantized), system.sampler)
    plain = QuantizedModel(system.model, system.candidates.schemes[0], system.ranges)
    with pytest.raises(BadInput, match="runs as its own scheme"):
        run(Arm(plain, InScope(policy)), system.sampler, samples=2)


def test_check__refuses_another_guidance_model_or_arithmetic(system, policy) -> None:
    use = {**json.loads(policy.table.attrs["config"]), "scheme": policy.name, "scheme_config": policy.scheme.config()}
    use["purpose"] = "evaluate"
    policy.check(use)
    for field, value in (("guidance", 2.0), ("weights_digest", "1" * 64), ("state", "Float32State"), ("target", "x")):
        with pytest.raises(BadInput, match=f"a policy holds only .*{field}"):
            policy.check({**use, field: value})


def test_ptqd__on_a_policy_is_fitted_on_that_policy_and_holds_for_it_alone(system, policy) -> None:
    quantized = policy.arm(system.model, system.ranges).quantized
    ptqd = fit_ptqd(run(Arm(quantized), system.sampler, **FIT))
    assert isinstance(ptqd, PTQD)
    arm = policy.arm(system.model, system.ranges, ptqd)
    plain, corrected = run_arms([Arm(quantized), arm], system.sampler, samples=16, kinds=("injected",), sites=False)
    assert corrected.correction.item() == "ptqd"
    assert float(sqnr_db(corrected).sqnr_db.mean()) > float(sqnr_db(plain).sqnr_db.mean())
    another = Policy("by-hand", system.candidates, policy.choice[::-1], system.table)  # a namesake
    with pytest.raises(BadInput, match="scheme_config"):
        run(another.arm(system.model, system.ranges, ptqd), system.sampler, samples=2)


def test_compare_policies__holds_costs_and_final_noise_with_paired_differences(system, policy, compared) -> None:
    policies, runs = compared
    gains = gaussian_gains(system.sampler)
    found = compare_policies(policies, runs, gains=gains, frechet_distance=[1.0, 2.0, np.nan, 4.0])
    assert found.policy.values.tolist() == ["w4a3", "w4a5", "w4a8", "by-hand"]
    assert found.total_bops.values.tolist() == [p.total_bops for p in policies]
    for index, dataset in enumerate(runs):
        final = sqnr_db(dataset, "state_accumulated").isel(step=-1)
        for name in ("sqnr_db", "sqnr_db_standard_error", "sqnr_db_low", "sqnr_db_high"):
            assert float(found[f"final_{name}"][index]) == float(final[name])
        np.testing.assert_array_equal(found.injected_sqnr_db[index], sqnr_db(dataset).sqnr_db)
        samples = dataset.state_sample_accumulated.isel(step=-1, channel=0)
        powers = [samples.sel(moment=m * 2) + samples.sel(moment=f"mean_{m}") ** 2 for m in "ye"]
        assert float(found.final_median_db[index]) == pytest.approx(
            float((10 * np.log10(powers[0] / powers[1])).median())
        )
        assert float(found.predicted_noise_power[index]) == pytest.approx(policies[index].predicted_noise(gains))
    np.testing.assert_allclose(
        found.final_difference_db, found.final_sqnr_db.values[:, None] - found.final_sqnr_db.values[:3], atol=1e-12
    )
    assert found.baseline.values.tolist() == ["w4a3", "w4a5", "w4a8"]
    own = found.final_difference_db_standard_error.values
    np.testing.assert_allclose(np.diag(own), 0, atol=1e-12)
    separate = np.hypot(found.final_sqnr_db_standard_error.values[3], found.final_sqnr_db_standard_error.values[1])
    assert 0 < own[3, 1] < separate  # paired on shared noise
    assert found.frechet_distance.values[3] == 4.0
    assert json.loads(found.attrs["rules"])["w4a3"] == {"rule": "uniform"}


def test_compare_policies__refuses_runs_that_are_not_theirs(system, policy, compared) -> None:
    policies, runs = compared
    with pytest.raises(BadInput, match="in their order"):
        compare_policies(policies, runs[::-1])
    with pytest.raises(BadInput, match="different names"):
        compare_policies([policy, policy], runs[-1:] * 2)
    elsewhere = run(policy.arm(system.model, system.ranges), system.sampler, samples=16, seed=1, sites=False)
    with pytest.raises(BadInput, match="seed 0 and 1"):
        compare_policies(policies, [*runs[:3], elsewhere])
    with pytest.raises(BadInput, match="one Frechet distance"):
        compare_policies(policies, runs, frechet_distance=[1.0])


def test_candidate_table__refuses_runs_that_do_not_belong_together(system) -> None:
    bops = system.table.bops.values

    def gathered(*runs):
        return candidate_table(system.candidates, runs, bops)

    with pytest.raises(BadInput, match=r"candidates\.measured"):
        gathered(*system.runs[::-1])
    network = QuantizedModel(system.model, system.candidates.schemes[2], system.ranges)
    for options, rule in (
        ({"seed": 1}, "seed 0 and 1"),
        ({"samples": 15}, "samples 16 and 15"),
        ({"purpose": "evaluate"}, "purpose 'calibrate'"),
    ):
        with pytest.raises(BadInput, match=rule):
            gathered(*system.runs[:2], run(Arm(network), system.sampler, **FIT | options))
    with pytest.raises(BadInput, match="at least 8 replicate blocks"):
        gathered(*system.runs[:2], run(Arm(network), system.sampler, **FIT | {"samples": 7}))
    broken = system.runs[1].copy(deep=True)
    broken.epsilon_injected[2] = np.nan
    with pytest.raises(BadInput, match="w4a5 at step 2"):
        gathered(system.runs[0], broken, system.runs[2])
    with pytest.raises(BadInput, match="bops must be"):
        candidate_table(system.candidates, system.runs, bops[:, :2])


def test_groups__are_measured_alone_and_chosen_apart(system) -> None:
    grouped = Candidates(system.candidates.schemes[:2], {"attention": ("@attention",)})
    schemes = [scheme for row in grouped.measured() for scheme in row]
    networks = [QuantizedModel(system.model, scheme, system.ranges) for scheme in schemes]
    runs = run_arms([Arm(network) for network in networks], system.sampler, **FIT)
    bops = grouped.bops(networks[0].sites, system.model.module)
    table = candidate_table(grouped, runs, bops)
    assert (bops.sum(0) == system.table.bops.values[0, :2]).all()
    gains = gaussian_gains(system.sampler)
    found = budgeted_policy(grouped, table, int(bops[:, 1].sum() + bops[:, 0].sum()) * STEPS // 2, gains)
    assert found.choice.shape == (STEPS, 2)
    evaluated = run(found.arm(system.model, system.ranges), system.sampler, samples=16, sites=False)
    compared = compare_policies([found], [evaluated], gains=gains)
    assert compared.activation_bits.shape == (1, STEPS, 2)
    assert "baseline" not in compared.dims
