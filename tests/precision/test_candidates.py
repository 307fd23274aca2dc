"""Claim: a policy's scheme gives every site, at every step, exactly what the chosen candidate gives it."""

from __future__ import annotations

import numpy as np
import pytest

from noise_models.precision.candidates import Candidates
from samplers.errors import BadInput
from simulator.instrument.accounting import account
from simulator.instrument.plan import Plan
from simulator.instrument.scheme import Rule, Scheme, Settings
from simulator.instrument.survey import survey
from simulator.targets.named import TARGETS

ATTENTION = {"attention": ("@attention", "qkv")}
MIXED = [  # (candidates, groups)
    (("w8a4", "w8a6", "w8a8"), {}),
    (("w4a8", "w8a4g", "w8a8"), {}),
    (("w4g4a8-attn4", "w8a4o16", "mxfp4"), {}),
    (("w8a6-attn3", "w8a8"), {}),
    (("w8a4", "w4a8"), ATTENTION),
    (("w4g4a3", "w8a8-dyn", "w5a5-wrap20"), {"attention": ("@attention",), "in": ("first", "embed*")}),
]


def parsed(names) -> tuple[Scheme, ...]:
    return tuple(Scheme.parse(name.replace("w8a4g", "w8g2a4")) for name in names)


@pytest.mark.parametrize(("names", "groups"), MIXED)
def test_scheme__gives_each_site_at_each_step_what_its_candidate_does(tiny_model, names, groups) -> None:
    sites = survey(tiny_model)
    chosen = Candidates(parsed(names), groups)
    choice = np.random.default_rng(0).integers(0, len(names), (7, len(chosen.group_names)))
    plan = Plan(chosen.scheme(choice, "policy"), sites)
    own = [Plan(scheme, sites) for scheme in chosen.schemes]
    group = chosen.group_of(sites)
    for step, row in enumerate(choice):
        for facts in sites:
            assert plan.at(facts.key, step) == own[row[group[facts.key]]].at(facts.key), (step, facts.key)


@pytest.mark.parametrize(("names", "groups"), MIXED)
def test_bops__of_policies_are_those_of_the_accounting(tiny_model, names, groups) -> None:
    sites = survey(tiny_model)
    chosen = Candidates(parsed(names), groups)
    bops = chosen.bops(sites, tiny_model.module)
    choice = np.random.default_rng(1).integers(0, len(names), (6, len(chosen.group_names)))
    found = account(Plan(chosen.scheme(choice, "policy"), sites), tiny_model.module, steps=6)
    assert list(found.bops) == [sum(bops[g, c] for g, c in enumerate(row)) for row in choice]


def test_measured__of_a_group_leaves_every_other_site_in_float(tiny_model) -> None:
    sites = survey(tiny_model)
    chosen = Candidates(parsed(("w8a4", "w4a8")), ATTENTION)
    group = chosen.group_of(sites)
    assert sorted(set(group.values())) == [0, 1]
    for g, row in enumerate(chosen.measured()):
        for index, scheme in enumerate(row):
            plan, own = Plan(scheme, sites), Plan(chosen.schemes[index], sites)
            for facts in sites:
                treatment = plan.at(facts.key)
                assert treatment.in_float == (group[facts.key] != g)
                if group[facts.key] == g:
                    assert treatment == own.at(facts.key)
    assert Candidates(chosen.schemes).measured() == (chosen.schemes,)


def test_scheme__follows_activation_bits_where_only_another_candidate_names_an_attention_operand(tiny_model) -> None:
    schemes = (Scheme(Settings(activation_bits=5, key_bits=3), name="x"), Scheme(Settings(activation_bits=6), name="y"))
    chosen = Candidates(schemes, {"attention": ("@attention",)})
    sites = survey(tiny_model)
    (scores,) = [facts.key for facts in sites if facts.key.operation == "qk"]
    plan = Plan(chosen.scheme([[0, 1], [1, 0]], "policy"), sites)
    bits = [[o.spec.format.bits for o in plan.at(scores, step).operands.values()] for step in (0, 1)]
    assert bits == [[6, 6], [5, 3]]


def test_activation_bits__are_those_of_block_formats_too() -> None:
    chosen = Candidates(parsed(("mxfp4", "w4a6", "mxint8")))
    assert chosen.activation_bits.tolist() == [4, 6, 8]
    assert chosen.weight_bits.tolist() == [4, 4, 8]


STEPPED = Scheme(Settings(), (Rule(("@first",), Settings(activation_bits=4), (0, 2)),), name="stepped")


@pytest.mark.parametrize(
    ("schemes", "groups", "rule"),
    [
        ((), {}, "one at least"),
        (("w8a8", "w8a8"), {}, "different names"),
        (("w8a8", f"w8a4@{next(iter(TARGETS))}"), {}, "share one target"),
        (("w8a8", "w8a4-f16"), {}, "share one intermediate"),
        (("w8a8", "w8a8-attn4"), ATTENTION, "share their rules"),
        (("w8a8",), {"rest": ("*",)}, "a group needs a name"),
        (("w8a8",), {"attention": "@attention"}, "tuple of patterns"),
    ],
)
def test_candidates__refuse_what_cannot_be_mixed(schemes, groups, rule) -> None:
    with pytest.raises(BadInput, match=rule):
        Candidates(parsed(schemes), groups)


def test_candidates__refuse_steps_of_their_own() -> None:
    with pytest.raises(BadInput, match="one scheme for all steps"):
        Candidates((STEPPED,))


def test_group_of__refuses_sites_in_two_groups_and_an_empty_rest(tiny_model) -> None:
    sites = survey(tiny_model)
    for groups, rule in (
        ({"a": ("@attention",), "b": ("@qk",)}, "one group"),
        ({"a": ("*",)}, "must hold a site"),
        ({"a": ("nowhere",)}, "must name a site"),
    ):
        with pytest.raises(BadInput, match=rule):
            Candidates(parsed(("w8a8",)), groups).group_of(sites)


@pytest.mark.parametrize("choice", [[0, 1], [[0, 0]], [[2]], [[-1]], [[0.5]], np.zeros((0, 1), int)])
def test_scheme__refuses_choices_of_nothing(choice) -> None:
    with pytest.raises(BadInput, match="choice"):
        Candidates(parsed(("w8a8", "w8a4"))).scheme(choice, "policy")
