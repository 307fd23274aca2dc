"""Claim: active collection takes the least certain step that is not yet taken too often, and certainty is as defined.

Density and diversity, the other scores that collection follows, are those of the features they are given.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_modules import as_model

from samplers.ddim import DDIM
from samplers.errors import BadInput
from samplers.noise import NoiseStream
from simulator.calibration.channels import PerChannel
from simulator.calibration.collection.active import Active
from simulator.calibration.collection.density_diversity import DensityDiversity
from simulator.calibration.collection.entropies import Hard, Soft, assignment_entropy, bins, step_entropies
from simulator.calibration.collection.features import feature_scores, scores_of
from simulator.calibration.collection.trajectories import collect
from simulator.calibration.ranges import Ranges
from simulator.calibration.steps import StepSets
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.sites import SiteKey

pytestmark = pytest.mark.usefixtures("one_thread")


# The choice


def test_active__by_hand():
    #            steps 0 and 1 are skipped, whatever they score; then 5, 3, 5, 1
    policy = Active((9, 9, 5, 3, 5, 1), weight=2, skip=2, per_round=3)
    # 5 3 5 1 -> 4 (the later of equals); 5 3 3 1 -> 2; 3 3 3 1 -> 4; 3 3 1 1 -> 3; 3 1 1 1 -> 2; 1 1 1 1 -> 5
    assert policy.rounds(6) == [4, 2, 4, 3, 2, 5]
    picks = policy.picks(6, 8, NoiseStream(0, "calibrate steps"))
    assert picks.step.tolist() == [4, 4, 4, 2, 2, 2, 4, 4]
    assert picks.member.tolist() == [*range(8)]


def test_active__without_weight_stays_and_with_a_large_one_goes_round():
    entropies = (0.0, 0.3, 0.1, 0.2)
    assert Active(entropies, 0, 0).rounds(3) == [1, 1, 1]
    assert Active(entropies, 10, 0).rounds(6) == [1, 3, 2, 0, 1, 3]


def test_active__maximises_what_it_says_at_every_round():
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores = generator.integers(0, 6, 9)  # many ties
        skip = int(generator.integers(0, 8))
        rounds = Active(tuple(scores), 1, skip).rounds(12)
        for i, chosen in enumerate(rounds):
            value = [(int(scores[t]) - rounds[:i].count(t), t) for t in range(skip, 9)]
            assert max(value)[1] == chosen
        # greedy on concave gains: no other counts of as many rounds have more to gain
        if skip >= 6:
            total = sum(scores[t] - rounds[:i].count(t) for i, t in enumerate(rounds[:4]))
            others = itertools.product(range(skip, 9), repeat=4)
            assert total == max(sum(scores[t] - r[:i].count(t) for i, t in enumerate(r)) for r in others)


# Entropies


def test_assignment_entropy__is_the_released_formula():
    uniform, certain = np.full((8, 5), 1 / 8), np.eye(8)[:, [0, 3, 3, 7, 1]]
    assert np.isclose(assignment_entropy(uniform), math.log(8) / 8, rtol=1e-14)
    assert assignment_entropy(certain) == 0
    attn = torch.softmax(torch.randn(4, 8, 6, generator=torch.Generator().manual_seed(0)).double(), dim=1)
    for step in range(4):  # -sum over channels of p log p, mean over groups, by the number of channels
        want = (-torch.sum(attn[step] * torch.log(attn[step]), dim=-1)).mean() / 6
        assert np.isclose(assignment_entropy(attn.numpy())[step], want.item(), rtol=1e-13)


def test_bins__hold_their_lower_end_and_the_last_its_upper():
    assert bins(np.array([0.0, 1, 2, 3.9, 4, 7.99, 8]), 4).tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert bins(np.array([2.0, 2.0]), 4).tolist() == [0, 0]


def test_hard__is_the_mean_entropy_of_two_histograms():
    spread, alike = np.arange(8.0), np.ones(8)
    assert np.isclose(Hard().entropy(spread, spread + 8, 8), math.log(8) / 8, rtol=1e-14)
    assert np.isclose(Hard().entropy(alike, spread + 8, 8), math.log(8) / 16, rtol=1e-14)
    assert Hard().entropy(alike, alike, 8) == 0
    skewed = np.array([0.0, 0, 0, 1])  # 3/4 and 1/4
    want = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / 2 / 2
    assert np.isclose(Hard().entropy(skewed, alike[:4] * 2, 2), want, rtol=1e-14)


def test_soft__by_hand():
    low, high = np.array([-2.0, -1.9, 0.0]), np.array([1.0, 3.0, 3.0])
    # two groups. Smallest values: bins from -2 of width 1, bounds -2 and 0; largest: width 1, bounds 1 and 3
    distance = np.array([[0 + 0, 0.1 + 2, 2 + 2], [2 + 2, 1.9 + 0, 0 + 0]])
    for temperature in (1.0, 0.3):
        first = 1 / (1 + np.exp(-(distance[1] - distance[0]) / temperature))
        found = Soft(temperature).probabilities(low, high, 2)
        assert np.allclose(found, [first, 1 - first], rtol=1e-12)
    assert np.isclose(Soft().entropy(low, high, 2), assignment_entropy(Soft().probabilities(low, high, 2)))
    assert Soft().entropy(np.ones(4), np.ones(4), 8) == pytest.approx(math.log(8) / 8)


def test_soft__empty_bins_are_bounded_by_their_upper_end():
    low = np.array([0.0, 0.0, 4.0])  # four bins of width 1: bounds 0, (2), (3), 4
    found = Soft().probabilities(low, np.ones(3), 4)
    weights = np.exp(-np.abs(low[None] - np.array([0, 2, 3, 4.0])[:, None]))
    assert np.allclose(found, weights / weights.sum(axis=0), rtol=1e-12)


def ranges_of(table):
    """Ranges per channel of {(module, role): [(low, high) of each step]}."""
    bounds = {
        (SiteKey(module, "linear"), role, str(step)): tuple(np.array(b, np.float64)[None] for b in pair)
        for (module, role), pairs in table.items()
        for step, pair in enumerate(pairs)
    }
    return Ranges(bounds, {}, StepSets.each(2))


def test_step_entropies__add_up_over_the_operands_of_a_role():
    wide, narrow = ([0.0, 1, 2, 3], [4.0, 5, 6, 7]), ([0.0, 0, 0, 0], [1.0, 1, 1, 2])
    ranges = ranges_of({("a", "input"): [wide, narrow], ("b", "input"): [wide, wide], ("b", "key"): [wide, wide]})
    for assignment in (Hard(), Soft(0.5)):
        of = [assignment.entropy(*(np.array(b) for b in pair), 4) for pair in (wide, narrow)]
        found = step_entropies(ranges, 2, groups=4, assignment=assignment)
        assert np.allclose(found, [2 * of[0], of[1] + of[0]], rtol=1e-14)
        both = step_entropies(ranges, 2, groups=4, assignment=assignment, roles=("input", "key"))
        assert np.allclose(both, [3 * of[0], of[1] + 2 * of[0]], rtol=1e-14)


def test_step_entropies__refuse_what_they_cannot_read(tiny_model):
    ranges = ranges_of({("a", "input"): [([0.0, 1], [1.0, 2])] * 2})
    per_tensor = Ranges({(SiteKey("a", "linear"), "input", "all"): (np.array(0.0), np.array(1.0))}, {})
    wrong = [
        (lambda: step_entropies(per_tensor, 2), "PerChannel"),
        (lambda: step_entropies(ranges, 3), "step sets"),
        (lambda: step_entropies(ranges, 2, roles=("output",)), "roles"),
        (lambda: step_entropies(ranges, 2, groups=0), "groups"),
        (lambda: step_entropies(ranges, 2, assignment="hard"), "assignment"),
        (lambda: Soft(0), "temperature"),
        (lambda: assignment_entropy(np.ones(3)), "probabilities"),
        (lambda: assignment_entropy(np.ones((2, 3))), "sum 1"),
        (lambda: assignment_entropy(np.array([[2.0], [-1.0]])), "at least 0"),
        (lambda: assignment_entropy(np.array([[np.nan], [1.0]])), "at least 0"),
    ]
    for make, message in wrong:
        with pytest.raises(BadInput, match=message):
            make()


def test_active__from_an_observed_range_pass(tiny_model):
    sampler = DDIM(tiny_model.schedule, 4)
    ranges = calibrate_ranges(tiny_model, sampler, samples=4, granularity=PerChannel(), steps=StepSets.each(4))
    entropies = {kind: step_entropies(ranges, 4, assignment=kind) for kind in (Hard(), Soft())}
    assert len(set(entropies.values())) == 2
    layers = len({key[:2] for key in ranges.bounds if key[1] == "input"})
    for found in entropies.values():
        assert len(set(found)) > 1
        assert 0 < min(found) <= max(found) <= layers * math.log(8) / 8
    policy = Active(entropies[Soft()], weight=0.01, skip=1, per_round=2)
    points = collect(tiny_model, sampler, policy, samples=6)
    assert points.histogram(4).tolist() == (2 * np.bincount(policy.rounds(3), minlength=4)).tolist()
    assert points.source["collection"]["entropies"] == list(entropies[Soft()])


# Density and diversity


@pytest.mark.parametrize(
    ("density", "diversity", "weight", "samples", "counts"),
    [
        ((0, 1, 2), (2, 1, 0), 1, 10, [4, 3, 3]),  # equal weights: what is missing goes to the noisier of equals
        ((0, 1, 2), (2, 1, 0), 1, 11, [4, 4, 3]),  # too much is taken from the end
        ((0, 4, 2, 0), (9, 9, 9, 9), 5, 12, [0, 8, 4, 0]),  # equal diversities count nothing
        ((3, 3, 3, 3), (0, 0, 1, 3), 1.2, 8, [0, 0, 2, 6]),
        ((3, 3), (7, 7), 1.2, 5, [3, 2]),  # nothing to tell steps apart: 2.5 each, to even, and one more
        ((0, 1), (0, 1), 3, 7, [0, 7]),
        ((0, 2, 2, 3), (1, 1, 1, 1), 5, 5, [0, 1, 1, 3]),  # what is missing goes to the largest
        ((0, 1, 1), (1, 0, 0), 3, 5, [3, 1, 1]),  # the weight is that of diversity
        ((0, 0, 0, 1, 1, 1), (0, 0, 0, 1, 1, 0), 1, 2, [0, 0, 0, 1, 1, 0]),
    ],
)
def test_density_diversity__counts_by_hand(density, diversity, weight, samples, counts):
    policy = DensityDiversity(density, diversity, weight)
    assert policy.counts(samples).tolist() == counts
    picks = policy.picks(len(density), samples, NoiseStream(0, "calibrate steps"))
    assert np.bincount(picks.step, minlength=len(density)).tolist() == counts


def test_density_diversity__gives_exactly_as_many_points_as_samples():
    generator = np.random.default_rng(1)
    for samples in range(1, 60):
        policy = DensityDiversity(tuple(generator.random(50)), tuple(generator.random(50)), 1.2)
        counts = policy.counts(samples)
        assert counts.sum() == samples
        assert counts.min() >= 0


def test_density_diversity__shuffles_which_sample_gets_which_step():
    policy = DensityDiversity((0, 1, 2, 3), (0, 1, 2, 3))
    steps = [policy.picks(4, 40, NoiseStream(seed, "calibrate steps")).step.tolist() for seed in (0, 0, 1)]
    assert steps[0] == steps[1] != steps[2]
    assert steps[0] != sorted(steps[0])


def test_scores__by_hand():
    features = [torch.tensor(rows).reshape(1, 2, 2).float() for rows in ([1, 0, 0, 1], [2, 0, 0, 2], [0, 1, 1, 0])]
    # per place (last axis) the channels are (1, 0) and (0, 1); (2, 0) and (0, 2); (0, 1) and (1, 0)
    # mean squared distances 1/2, 1 and 5/2; cosines 1, 0 and 0 at both places
    density, diversity = scores_of(features, 1.0)
    assert density == (2, 1, 1)
    assert np.allclose(diversity, (2, 4 - 2, 4))
    assert scores_of(features, 0.5)[0] == (1, 1, 0)
    assert scores_of(features)[0] == scores_of(features, 1.0)[0]  # the median of 1/2, 1 and 5/2


def test_feature_scores__read_the_modules_input_along_the_trajectory(tiny_model):
    sampler = DDIM(tiny_model.schedule, 4)
    found = feature_scores(tiny_model, sampler, module="norm", samples=3, seed=2, radius=0.5)
    from samplers.loop import sample

    inputs: list = []
    hook = tiny_model.module.norm.register_forward_hook(lambda _, args, output: inputs.append(args[0].clone()))
    try:
        sample(tiny_model.module, sampler, NoiseStream(2, "calibrate"), range(3), (1, 8, 8))
    finally:
        hook.remove()
    assert len(inputs) == 4
    for i, (near, apart) in enumerate(zip(*found, strict=True)):
        others = [other for j, other in enumerate(inputs) if j != i]
        assert near == sum(float(F.mse_loss(inputs[i], other)) <= 0.5 for other in others)
        want = sum(float((1 - F.cosine_similarity(inputs[i], other, dim=1)).sum()) for other in others)
        assert np.isclose(apart, want, rtol=1e-4)
    policy = DensityDiversity(*feature_scores(tiny_model, sampler, module="norm", samples=3))
    assert len(collect(tiny_model, sampler, policy, samples=7)) == 7


class Scalars(nn.Module):
    """What it is given."""

    def forward(self, factor):
        return factor


class Odd(nn.Module):
    """A network whose inner module is given no features."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Scalars()

    def forward(self, x, timestep):
        self.inner(timestep.float())
        return x


def test_feature_scores__refuse_modules_without_features(tiny_model):
    sampler = DDIM(tiny_model.schedule, 3)
    for module, message in (("nowhere", "path"), ("embed.7", "path")):
        with pytest.raises(BadInput, match=message):
            feature_scores(tiny_model, sampler, module=module, samples=1)
    with pytest.raises(BadInput, match="one step"):
        feature_scores(tiny_model, DDIM(tiny_model.schedule, 1), module="norm", samples=1)
    with pytest.raises(BadInput, match="radius"):
        feature_scores(tiny_model, sampler, module="norm", samples=1, radius=-1)
    tiny_model.module.idle = Scalars()
    try:
        with pytest.raises(BadInput, match="must run"):
            feature_scores(tiny_model, sampler, module="idle", samples=1)
    finally:
        del tiny_model.module.idle
    odd = as_model(Odd(), (4,))
    with pytest.raises(BadInput, match="first argument"):
        feature_scores(odd, DDIM(odd.schedule, 3), module="inner", samples=2)
    assert not odd.module.inner._forward_pre_hooks
