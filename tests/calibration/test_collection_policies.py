"""Claim: each policy picks the points that its paper describes, and says beforehand how many points a step gets."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import norm

from samplers.errors import BadInput
from samplers.noise import NoiseStream
from simulator.calibration.collection.active import Active
from simulator.calibration.collection.density_diversity import DensityDiversity
from simulator.calibration.collection.fixed import AllSteps, Noisiest, Uniform
from simulator.calibration.collection.normal import Normal
from simulator.calibration.collection.policy import Collection
from simulator.calibration.collection.random_steps import RandomSteps

NOISE = NoiseStream(3, "calibrate steps")


def steps_of(policy, steps, samples):
    """The steps of each sample, as lists; members and states checked on the way."""
    picks = policy.picks(steps, samples, NOISE)
    assert np.array_equal(picks.state, picks.step)
    assert all(index.dtype == np.int64 for index in (picks.state, picks.step, picks.member))
    return [picks.step[picks.member == i].tolist() for i in range(samples)]


@pytest.mark.parametrize(("steps", "chosen"), [(100, range(0, 100, 5)), (50, range(0, 50, 2)), (20, range(20))])
def test_uniform__takes_every_kth_step_of_every_sample_from_the_noisiest_on(steps, chosen):
    assert steps_of(Uniform(), steps, 3) == [list(chosen)] * 3


def test_noisiest__takes_step_0_and_all_steps_takes_each():
    assert steps_of(Noisiest(), 7, 3) == [[0]] * 3
    assert steps_of(AllSteps(), 3, 2) == [[0, 1, 2]] * 2


def test_random_steps__are_different_equally_likely_and_each_samples_own():
    found = steps_of(RandomSteps(3), 8, 2000)
    assert all(len(set(steps)) == 3 for steps in found)
    counts = np.bincount(np.concatenate(found), minlength=8)
    assert (np.abs(counts - 750) < 5 * math.sqrt(2000 * 3 / 8 * 5 / 8)).all()
    assert len({tuple(steps) for steps in found}) == math.comb(8, 3)
    assert steps_of(RandomSteps(3), 8, 5) == found[:5]


# Normal: the closed form


def test_normal__clamping_piles_22_6_percent_on_the_end_steps():
    shares = Normal().shares(1000)
    assert np.isclose(shares.sum(), 1, rtol=1e-12)
    # the least noisy step holds v below 1/S, the noisiest v from (S - 1)/S on
    assert np.isclose(shares[-1], norm.cdf((0.001 - 0.4) / 0.4), rtol=1e-12)
    assert np.isclose(shares[0], norm.sf((0.999 - 0.4) / 0.4), rtol=1e-12)
    assert round(100 * (shares[0] + shares[-1]), 1) == 22.6
    assert shares[-1] > 0.15
    # of these, what was drawn outside
    assert np.isclose(shares[0] + shares[-1] - 2 * 0.000464, norm.cdf(-1) + norm.sf(1.5), atol=1e-5)


def test_normal__redrawing_leaves_the_normal_density():
    shares = Normal(truncation="redraw").shares(50)
    edges = np.arange(51) / 50
    inside = norm.cdf(1, 0.4, 0.4) - norm.cdf(0, 0.4, 0.4)
    assert np.allclose(shares[::-1], np.diff(norm.cdf(edges, 0.4, 0.4)) / inside, rtol=1e-12)
    assert np.argmax(shares) in (29, 30)  # time 0.4 of S, counted from the least noisy step
    assert shares.max() < 1.6 * shares.min() / norm.pdf(1.5) * norm.pdf(0)


@pytest.mark.parametrize("truncation", ["clamp", "redraw"])
def test_normal__draws_the_shares(truncation):
    policy = Normal(truncation=truncation)
    counts = np.bincount(policy.picks(10, 5000, NOISE).step, minlength=10)
    shares = policy.shares(10)
    assert (np.abs(counts - 5000 * shares) < 5 * np.sqrt(5000 * shares * (1 - shares))).all()


def test_normal__redraws_only_what_fell_outside():
    clamped, redrawn = (Normal(truncation=t).picks(1000, 500, NOISE).step for t in ("clamp", "redraw"))
    ends = (clamped == 0) | (clamped == 999)
    assert np.array_equal(clamped[~ends], redrawn[~ends])
    assert 60 < ends.sum() < 170
    assert (clamped != redrawn)[ends].mean() > 0.97  # a step at the end may be drawn inside it


def test_normal__released_order_takes_the_state_after_step_t_and_labels_it_from_the_other_end():
    correct, released = (Normal(time_order=order).picks(10, 400, NOISE) for order in ("correct", "released"))
    assert np.array_equal(released.step, correct.step)
    assert np.array_equal(released.member, correct.member)
    time = 9 - correct.step
    assert np.array_equal(released.state, time + 1)
    assert set(released.state) == set(range(1, 11))


def test_normal__draws_do_not_depend_on_the_number_of_samples():
    for truncation in ("clamp", "redraw"):
        policy = Normal(truncation=truncation)
        assert np.array_equal(policy.picks(20, 300, NOISE).step[:7], policy.picks(20, 7, NOISE).step)


# All of them

POLICIES = [
    Uniform(), Uniform(5), Noisiest(), AllSteps(), RandomSteps(), RandomSteps(1), Normal(), Normal(0.5),
    Normal(deviation=0.1), Normal(truncation="redraw"), Normal(time_order="released"),
    Active((0.0, 1.0) * 20), Active((0.0, 1.0) * 20, 1), Active((0.0, 1.0) * 20, skip=3),
    Active((0.0, 1.0) * 20, per_round=3), DensityDiversity((0.0, 1.0) * 20, (1.0, 0.0) * 20),
    DensityDiversity((0.0, 1.0) * 20, (1.0, 0.0) * 20, 3),
]  # fmt: skip


def test_policies__are_told_apart_by_json():
    assert all(isinstance(policy, Collection) for policy in POLICIES)
    configs = [json.dumps(policy.config(), allow_nan=False) for policy in POLICIES]
    assert len(set(configs)) == len(POLICIES)
    assert Active(np.array([1, 2]), 2, np.int64(0)).config() == Active((1.0, 2.0), 2.0, 0).config()


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_policies__pick_within_the_trajectories_and_each_point_once(policy):
    picks = policy.picks(40, 33, NOISE)
    assert picks.step.min() >= 0
    assert picks.step.max() < 40
    assert picks.state.min() >= 0
    assert picks.state.max() <= 40
    assert set(picks.member) == set(range(33))
    assert len({*zip(picks.state.tolist(), picks.member.tolist(), strict=True)}) == len(picks.step)


WRONG = {
    "count": (lambda: Uniform(0), "count"),
    "fraction": (lambda: RandomSteps(2.5), "count"),
    "mean": (lambda: Normal(1.1), "mean"),
    "deviation": (lambda: Normal(0.4, 0), "deviation"),
    "nan": (lambda: Normal(float("nan")), "mean"),
    "truncation": (lambda: Normal(truncation="fold"), "truncation"),
    "order": (lambda: Normal(time_order="reversed"), "time_order"),
    "hopeless redraws": (lambda: Normal(0.5, 1000, "redraw"), "redrawing"),
    "no entropies": (lambda: Active(()), "entropies"),
    "text": (lambda: Active("123", skip=0), "entropies"),
    "infinite": (lambda: Active((1, float("inf")), skip=0), r"entropies\[1\]"),
    "skip": (lambda: Active((1,) * 30), "skip"),
    "weight": (lambda: Active((1,), -1, 0), "weight"),
    "rounds": (lambda: Active((1,), 1, 0, 0), "per_round"),
    "scores": (lambda: DensityDiversity((1, 2), (1,)), "every step"),
    "lambda": (lambda: DensityDiversity((1, 2), (1, 2), -1), "weight"),
    "few steps": (lambda: Uniform(20).picks(19, 1, NOISE), "19 steps"),
    "few to choose": (lambda: RandomSteps(20).picks(19, 1, NOISE), "19 steps"),
    "other entropies": (lambda: Active((1,) * 40).picks(50, 1, NOISE), "sampler's 50 steps"),
    "other scores": (lambda: DensityDiversity((1, 2), (1, 2)).picks(3, 1, NOISE), "sampler's 3 steps"),
}


@pytest.mark.parametrize("case", WRONG)
def test_policies__refuse_what_makes_no_sense(case):
    make, message = WRONG[case]
    with pytest.raises(BadInput, match=message):
        make()
