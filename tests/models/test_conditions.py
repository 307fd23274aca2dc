"""Claim: conditions belong to sample indices, guidance is one pass of 2n rows, and bad ones are one readable error."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from samplers.errors import BadInput
from simulator.instrument.survey import survey
from simulator.models import Condition, Conditioning, Model, load
from simulator.models.conditioning import call_for, class_denoiser, conditioning_config
from simulator.models.dit import NULL_LABEL


@pytest.fixture(scope="module")
def model():
    return load("digits-dit@1")


def labels(*values: int, weight: float = 1.0) -> Conditioning:
    return Conditioning({"label": torch.tensor(values)}, weight=weight)


def inputs(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, 1, 8, 8, generator=torch.Generator().manual_seed(2)), torch.full((batch,), 300)


def echo(seen: list, *conditions: Condition, classes: int | None = None) -> Model:
    """A model whose call notes what it is given and returns x."""

    def call(module, x, timestep, **given):
        seen.append((x, timestep, given))
        return x + sum(t.float().reshape(len(x), -1).sum(1) for t in given.values())[:, None]

    return Model("echo", 1, torch.nn.Identity(), None, (3,), "epsilon", "0" * 64, classes, call, conditions)


TEXT = Condition("text", (None, 2))
POOLED = Condition("pooled", (4,))


# Calls


def test_conditioned_call__is_the_network_with_the_samples_labels(model):
    x, timestep = inputs(3)
    call = labels(7, 1, 4, 9).of(model, [6, 0, 3])
    want = model.module(x, timestep, torch.tensor([4, 7, 9]))
    assert torch.equal(call(model.module, x, timestep), want)


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0, -0.5])
def test_conditioned_call__guides_with_the_bits_of_a_guided_denoiser(model, weight):
    x, timestep = inputs(3)
    want = class_denoiser(model, torch.tensor([2, 5, NULL_LABEL]), weight=weight)(x, timestep)
    got = labels(2, 5, NULL_LABEL, weight=weight).of(model, range(3))(model.module, x, timestep)
    assert torch.equal(got, want)


def test_conditioned_call__holds_all_unconditional_rows_before_all_conditional_ones():
    seen: list = []
    text = torch.arange(16.0).reshape(4, 2, 2)
    conditioning = Conditioning(
        {"text": text, "pooled": torch.ones(1, 4)}, {"text": torch.full((2, 2), -1.0), "pooled": torch.ones(1, 4)}, 2.0
    )
    model = echo(seen, TEXT, POOLED)
    x, timestep = torch.randn(3, 3), torch.arange(3)
    got = conditioning.of(model, [5, 2, 0])(model.module, x, timestep)
    ((rows, times, given),) = seen
    assert torch.equal(rows, torch.cat([x, x]))
    assert times.tolist() == [0, 1, 2, 0, 1, 2]
    assert torch.equal(given["text"], torch.cat([torch.full((3, 2, 2), -1.0), text[[1, 2, 0]]]))
    assert torch.equal(given["pooled"], torch.ones(6, 4))
    without, with_text = x - 4.0 + 4.0, x + text[[1, 2, 0]].sum((1, 2))[:, None] + 4.0
    torch.testing.assert_close(got, without + 2.0 * (with_text - without))


def test_conditioned_call__gives_each_sample_its_own_null_where_nulls_have_rows():
    seen: list = []
    text = torch.arange(12.0).reshape(3, 2, 2)
    Conditioning({"text": text}, {"text": -text}, 0.0).of(echo(seen, TEXT), [4, 0])(
        None, torch.zeros(2, 3), inputs(2)[1]
    )
    assert torch.equal(seen[0][2]["text"], -text[[1, 0]])


def test_conditioned_call__refuses_another_batch(model):
    x, timestep = inputs(3)
    with pytest.raises(BadInput, match="3 samples for 2 conditions"):
        labels(1).of(model, range(2))(model.module, x, timestep)


def test_call_for__without_conditions_is_the_models_own(model):
    own = echo([])
    assert call_for(own, None, range(2)) is own.call
    assert call_for(model, None, range(2)) is None
    assert conditioning_config(None) == {}


# The value


def test_conditioning__keeps_a_copy():
    tensor = torch.tensor([1, 2])
    kept = Conditioning({"label": tensor})
    before = kept.config()
    tensor[0] = 5
    assert kept.config() == before
    with pytest.raises(TypeError):
        kept.given["label"] = tensor


def test_config__tells_conditions_apart_and_nothing_else():
    text, null = torch.ones(2, 3, 4), torch.zeros(3, 4)
    configs = [
        Conditioning({"text": text}, {"text": null}, 3.0).config(),
        Conditioning({"text": text}, {"text": null}, 2.0).config(),
        Conditioning({"text": text}, {"text": null - 1}, 3.0).config(),
        Conditioning({"text": text + 1}, {"text": null}, 3.0).config(),
        Conditioning({"words": text}, {"words": null}, 3.0).config(),
        Conditioning({"text": text}).config(),
    ]
    assert len({str(config) for config in configs}) == len(configs)
    assert Conditioning({"text": text}, {"text": null}).config() == configs[-1]  # at weight 1 a null is not used
    assert Conditioning({"text": text.clone()}, {"text": null}, 3).config() == configs[0]
    assert labels(1, weight=0.0).config() == labels(1, weight=-0.0).config()


def test_from_file__reads_what_the_value_holds(tmp_path):
    text, null, mask = torch.randn(2, 3, 4), torch.zeros(3, 4), torch.tensor([[1, 1, 0]])
    path = tmp_path / "conditions.safetensors"
    save_file({"text": text, "null.text": null, "mask": mask, "null.mask": mask.clone()}, path)
    read = Conditioning.from_file(path, weight=5.0)
    assert read.config() == Conditioning({"text": text, "mask": mask}, {"text": null, "mask": mask}, 5.0).config()
    path.write_bytes(path.read_bytes()[:-1])
    for bad in (path, tmp_path / "missing.safetensors"):
        with pytest.raises(BadInput, match="readable safetensors"):
            Conditioning.from_file(bad)


@pytest.mark.parametrize(
    ("given", "null", "weight", "says"),
    [
        ({}, {}, 1.0, "must have rows"),
        ({"text": torch.tensor(1.0)}, {}, 1.0, "must have rows"),
        ({"text": torch.ones(0, 2)}, {}, 1.0, "must have rows"),
        ({"text": torch.ones(2, 2), "pooled": torch.ones(3, 4)}, {}, 1.0, "as many in every tensor"),
        ({"text": torch.ones(2, 2).half()}, {}, 1.0, "float32, int64 or bool"),
        ({"text": [1, 2]}, {}, 1.0, "tensor on the CPU, got list"),
        ({"text": torch.tensor([[1.0, float("nan")]])}, {}, 1.0, "finite"),
        ({"text": torch.ones(2, 2)}, {"pooled": torch.ones(2)}, 1.0, "belong to a condition"),
        ({"text": torch.ones(2, 2)}, {"text": torch.ones(3)}, 1.0, "null of text must be"),
        ({"text": torch.ones(2, 2)}, {"text": torch.ones(2).long()}, 1.0, "null of text must be"),
        ({"text": torch.ones(2, 2)}, {}, float("inf"), "guidance weight"),
        ({"text": torch.ones(2, 2)}, {}, "3", "guidance weight"),
    ],
)
def test_conditioning__refuses(given, null, weight, says):
    with pytest.raises(BadInput, match=says):
        Conditioning(given, null, weight)


@pytest.mark.parametrize("bad", [torch.tensor([10]), torch.tensor([0, -2]), torch.tensor([1.0])])
def test_conditioning__refuses_labels_the_model_does_not_have(model, bad):
    with pytest.raises(BadInput, match="labels must be int64, 0 to 9, or -1 for none"):
        Conditioning({"label": bad}).of(model, range(2))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"words": torch.ones(2, 3, 2)}, "that echo takes: text, pooled, got 'words'"),
        ({"text": torch.ones(2, 3, 4)}, r"shape \(any, 2\), got \(3, 4\)"),
        ({"text": torch.ones(2, 2)}, r"shape \(any, 2\)"),
    ],
)
def test_conditioning__refuses_what_a_model_does_not_take(given, says):
    with pytest.raises(BadInput, match=says):
        Conditioning(given).of(echo([], TEXT, POOLED), range(2))


def test_guidance__needs_a_null_that_labels_have_and_embeddings_do_not(model):
    with pytest.raises(BadInput, match="no null for text"):
        Conditioning({"text": torch.ones(2, 3, 2)}, weight=2.0).of(echo([], TEXT), range(2))
    assert labels(1, weight=2.0).of(model, range(2)).conditions["label"].tolist() == [-1, -1, 1, 1]


def test_model__that_takes_none_is_given_none():
    with pytest.raises(BadInput, match="takes: none"):
        labels(1).of(load("digits-unet"), range(1))


# The survey


def test_survey__under_guidance_finds_the_same_sites_and_edges_at_twice_the_cost(model):
    plain, guided = survey(model), survey(model, conditioning=labels(3, weight=3.0))
    given = survey(model, conditioning=labels(3))
    assert given == plain
    assert [facts.key for facts in guided] == [facts.key for facts in plain]
    for one, both in zip(plain, guided, strict=True):
        assert (both.edge, both.batched, both.sample_axis, both.roles) == (
            one.edge, one.batched, one.sample_axis, one.roles,
        )  # fmt: skip
        assert (both.macs, both.operands) == (2 * one.macs, 2 * one.operands)


class TimeFirst(torch.nn.Module):
    """Runs the layer of the timestep before the one that reads the sample."""

    def __init__(self) -> None:
        super().__init__()
        self.time, self.first, self.last = torch.nn.Linear(1, 4), torch.nn.Linear(3, 4), torch.nn.Linear(4, 3)

    def forward(self, x, timestep, label):
        time = self.time(timestep[:, None].float())
        return self.last(self.first(x) + time + label[:, None])


def test_survey__under_guidance_takes_the_layer_that_reads_the_sample_for_the_first():
    model = Model(
        "own", 1, TimeFirst().eval(), None, (3,), "epsilon", "0" * 64, 10, None, (Condition("label", null=10),)
    )
    facts = survey(model, conditioning=labels(3, weight=3.0))
    assert [f.key.module for f in facts if f.edge] == ["first", "last"]
