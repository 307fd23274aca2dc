"""Claim: a low-rank branch holds a weight's largest directions, the residual the rest, and their sum is the layer."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from same_function import TOLERANCE, error, perturbed, small_dit

from samplers import DDIM, BadInput
from simulator import Arm, QuantizedModel, Scheme, calibrate_ranges, load, run_arms, survey
from simulator.calibration.balancing.balance import balance
from simulator.calibration.balancing.families import graph_of
from simulator.calibration.balancing.rules import SmoothQuant
from simulator.calibration.balancing.salience import collect_salience
from simulator.calibration.transforms.hadamard import Rotation, rotate
from simulator.calibration.transforms.low_rank import LowRank, add_low_rank_branches, factorize
from simulator.instrument.accounting import account
from simulator.instrument.plan import Plan
from simulator.instrument.scheme import Rule, Settings
from simulator.instrument.sites import SiteKey

pytestmark = pytest.mark.usefixtures("one_thread")
LAYERS = ("blocks.*.attention.*", "blocks.*.mlp.*")


@pytest.mark.parametrize("rank", [1, 8, 20])
def test_factorize__is_the_best_approximation_and_loses_nothing(rank) -> None:
    weight = torch.randn(20, 33, generator=torch.Generator().manual_seed(rank))
    down, up, residual = factorize(weight, rank)
    assert (down.shape, up.shape) == ((rank, 33), (20, rank))
    torch.testing.assert_close(
        up.double() @ down.double() + residual.double(), weight.double(), rtol=0, atol=3e-7 * float(weight.abs().max())
    )
    values = torch.linalg.svdvals(weight.double())
    assert float(residual.double().norm()) == pytest.approx(float(values[rank:].norm()), rel=1e-5, abs=1e-5)
    torch.testing.assert_close(up.T @ up, torch.eye(rank), rtol=0, atol=1e-5)
    assert (up.gather(0, up.abs().argmax(0, keepdim=True)) > 0).all()


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize(("name", "layers"), [("digits-dit", LAYERS), ("digits-unet", ("mid.*",))])
def test_branches__leave_the_float_function_of_shipped_models(name, layers, move) -> None:
    model = perturbed(load(name)) if move else load(name)
    found = add_low_rank_branches(model, LowRank(16, layers))
    assert error(model, found.model) < TOLERANCE
    assert set(found.ranks.values()) == {16}
    for path, share in found.explained.items():
        values = torch.linalg.svdvals(model.module.get_submodule(path).weight.double()).square()
        assert share == pytest.approx(float(values[:16].sum() / values.sum()), rel=1e-6)


def test_branches__rank_is_at_most_the_smaller_side() -> None:
    found = add_low_rank_branches(small_dit(), LowRank(32, ("head.linear", "blocks.0.mlp.*")))
    assert found.ranks == {"blocks.0.mlp.linear1": 24, "blocks.0.mlp.linear2": 24, "head.linear": 4}
    assert found.explained["head.linear"] == pytest.approx(1.0)


def test_branches__cost_the_rank_times_both_sides() -> None:
    model = small_dit()
    found = add_low_rank_branches(model, LowRank(4, LAYERS))
    plain, branched = (account(Plan(Scheme.parse("w4a8"), survey(m)), m.module) for m in (model, found.model))
    tokens = 16
    more = sum(4 * tokens * sum(model.module.get_submodule(path).weight.shape) for path in found.ranks)
    assert branched.macs == plain.macs + more
    assert {cost.site for cost in plain.passes[0]} < {cost.site for cost in branched.passes[0]}


def test_branches__rules_keep_them_wide_and_the_residual_in_groups() -> None:
    model = small_dit()
    found = add_low_rank_branches(model, LowRank(4, (*LAYERS, "head.linear")))
    base = Scheme.parse("w8g8a8")
    scheme = dataclasses.replace(
        base, rules=(*base.rules, *found.residual_rules(4, 16), *found.branch_rules()), name=""
    )
    plan = Plan(scheme, survey(found.model))
    for path in found.ranks:
        branch = found.model.module.get_submodule(path).branch
        assert (len(branch.down.weight), branch.up.weight.shape[1]) == (4, 4)
        own = plan.at(SiteKey(path, "linear"))
        assert (own.weight.format.bits, own.weight.granularity.group_size(1)) == (4, 16)
        assert own.activation_bits == 8
        for part in ("down", "up"):
            site = plan.at(SiteKey(f"{path}.branch.{part}", "linear"))
            assert (site.weight_bits, site.activation_bits, site.weight.granularity.group_size(1)) == (16, 16, None)
    # the last layer is the one it was, not its branch
    last = [facts.key for facts in survey(found.model) if facts.edge]
    assert last == [facts.key for facts in survey(model) if facts.edge]
    with pytest.raises(BadInput, match="weight_bits must lie in"):
        found.branch_rules(32)


def test_branches__after_smoothing_and_rotation_still_compute_the_function_and_run_in_integers() -> None:
    """The SVDQuant form: smoothed, split, R in int4 by groups of 64, the branch in 16 bits, against int4 alone."""
    model = load("digits-dit")
    sampler = DDIM(model.schedule, 2, 0.0)
    graph = graph_of(model).with_division(*(f"blocks.{i}.mlp.linear2" for i in range(4)))
    smooth = balance(model, collect_salience(model, sampler, samples=2), SmoothQuant(), graph=graph)
    found = add_low_rank_branches(smooth.model, LowRank(32, LAYERS))
    assert error(model, found.model) < TOLERANCE
    both = add_low_rank_branches(rotate(smooth.model, Rotation(LAYERS)).model, LowRank(32, LAYERS))
    assert error(model, both.model) < TOLERANCE
    base = Scheme.parse("w8a8")
    four = Rule(tuple(f"{path}:linear" for path in found.ranks), Settings(activation_bits=4))
    rules = (*base.rules, *found.residual_rules(), four)
    noises = []
    for network, given in ((model, rules), (found.model, (*rules, *found.branch_rules()))):
        scheme = dataclasses.replace(base, rules=given, name="")
        arm = Arm(QuantizedModel(network, scheme, calibrate_ranges(network, sampler, samples=2)))
        (run,) = run_arms([arm], sampler, samples=2, sites=False, kinds=("injected",), reference=model)
        noises.append(
            float((run.epsilon_injected.sel(moment="ee") + run.epsilon_injected.sel(moment="mean_e") ** 2).mean())
        )
    assert noises[1] < noises[0] / 3


def test_branches__say_what_they_need() -> None:
    model = small_dit()
    found = add_low_rank_branches(model, LowRank(2, ("blocks.0.mlp.linear1",)))
    with pytest.raises(BadInput, match="one low-rank branch"):
        add_low_rank_branches(found.model, LowRank(2, ("blocks.0.mlp.linear1",)))
    with pytest.raises(BadInput, match="rotation comes before"):
        rotate(found.model, Rotation(("blocks.0.mlp.linear1",)))
    with pytest.raises(BadInput, match="without a low-rank branch"):
        balance(found.model, collect_salience(found.model, DDIM(model.schedule, 2, 0.0), samples=2), SmoothQuant())
    with pytest.raises(BadInput, match="must name a linear layer"):
        add_low_rank_branches(model, LowRank(2, ("patches",)))
    for bad in (lambda: LowRank(0), lambda: LowRank(layers=()), lambda: LowRank(layers="*")):
        with pytest.raises(BadInput):
            bad()
