"""Claim: diffusers' networks are balanced, split, rotated and branched as ours are, their float function unchanged."""

from __future__ import annotations

import pytest
import torch
from same_function import TOLERANCE, error, perturbed

pytest.importorskip("diffusers")

import diffusers

from samplers import DDIM, BadInput, NoiseSchedule
from simulator import Conditioning, PerChannel, calibrate_ranges
from simulator.calibration.balancing.balance import Placement, balance
from simulator.calibration.balancing.families import graph_of
from simulator.calibration.balancing.layer_scales import rescale_norms
from simulator.calibration.balancing.rules import SalienceBalancing
from simulator.calibration.balancing.salience import collect_salience
from simulator.calibration.transforms.concatenations import concatenations_of
from simulator.calibration.transforms.hadamard import Rotation, rotate
from simulator.calibration.transforms.low_rank import LowRank, add_low_rank_branches
from simulator.calibration.transforms.shortcuts import Readers, split_shortcuts
from simulator.models.registry import Condition, Model

pytestmark = pytest.mark.usefixtures("one_thread")

LABELS = Conditioning({"label": torch.tensor([1, 5])})


def first(module, x, timestep, label=None):
    """The network's tensor, with its labels where it takes them."""
    given = {} if label is None else {"class_labels": label}
    return module(x, timestep, **given).sample


def model_of(build, shape, classes=None) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build().eval().requires_grad_(False)
    conditions = () if classes is None else (Condition("label", null=classes),)
    model = Model("theirs", 1, module, NoiseSchedule(), shape, "epsilon", "", classes, first, conditions)
    return perturbed(model)


@pytest.fixture(scope="module")
def dit() -> Model:
    return model_of(
        lambda: diffusers.DiTTransformer2DModel(
            num_attention_heads=2, attention_head_dim=8, in_channels=4, num_layers=2, sample_size=8, patch_size=2,
            norm_num_groups=2, num_embeds_ada_norm=10,
        ),
        (4, 8, 8), 10,
    )  # fmt: skip


def unet(**changes) -> Model:
    sizes = {
        "sample_size": 8, "layers_per_block": 1, "block_out_channels": (8, 16), "norm_num_groups": 4,
        "attention_head_dim": 4, "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    } | changes  # fmt: skip
    return model_of(lambda: diffusers.UNet2DModel(**sizes), (3, 8, 8))


@pytest.mark.parametrize("placement", list(Placement))
def test_balance__folds_into_a_diffusers_dit(dit, placement) -> None:
    sampler = DDIM(dit.schedule, 2, 0.0)
    salience = collect_salience(dit, sampler, samples=2, conditioning=LABELS)
    found = balance(dit, salience, SalienceBalancing(), placement=placement)
    assert error(dit, found.model) < TOLERANCE
    assert len(found.factors) == 6
    if placement is Placement.OFFLINE:
        after = collect_salience(found.model, sampler, samples=2, conditioning=LABELS)
        for name, factors in found.factors.items():  # the folded activations are the divided ones
            expected = salience.maxima[name] / factors.factor
            torch.testing.assert_close(*map(torch.from_numpy, (after.maxima[name], expected)), rtol=1e-4, atol=1e-6)


def test_balance__refuses_fused_projections(dit) -> None:
    fused = perturbed(dit)
    fused.module.transformer_blocks[1].attn1.fuse_projections()
    with pytest.raises(BadInput, match="layers of their own"):
        graph_of(fused)


def test_rescale__folds_into_a_diffusers_dit(dit) -> None:
    ranges = calibrate_ranges(dit, DDIM(dit.schedule, 2, 0.0), samples=2, granularity=PerChannel(), conditioning=LABELS)
    assert error(dit, rescale_norms(dit, ranges).model) < TOLERANCE


def test_rotate_and_branch__hold_on_diffusers_networks(dit) -> None:
    for model in (dit, unet()):
        rotated = rotate(model, Rotation(seed=0))
        assert error(model, rotated.model) < TOLERANCE
        branched = add_low_rank_branches(rotated.model, LowRank(3))
        assert error(model, branched.model) < TOLERANCE


@pytest.mark.parametrize("readers", list(Readers))
@pytest.mark.parametrize(
    "changes", [{}, {"layers_per_block": 2, "block_out_channels": (8, 16, 24), "norm_num_groups": 4,
                     "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
                     "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D")}],
)  # fmt: skip
def test_split__halves_of_a_diffusers_unet_are_what_it_concatenates(changes, readers, monkeypatch) -> None:
    model = unet(**changes)
    joined = []
    cat = torch.cat

    def watch(tensors, dim=0):
        if tensors[0].ndim == 4:
            joined.append(tensors[0].shape[1])
        return cat(tensors, dim=dim)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "cat", watch)
        first(model.module, torch.zeros(1, 3, 8, 8), torch.zeros(1, dtype=torch.long))
    places = concatenations_of(model)
    assert [place.first for place in places] == joined
    found = split_shortcuts(model, readers)
    assert error(model, found.model) < TOLERANCE
    assert len(found.layers) == len(joined) * (1 if readers is Readers.DIRECT else 2)


def test_split__refuses_up_blocks_of_another_form() -> None:
    model = unet(
        up_block_types=("AttnUpBlock2D", "SkipUpBlock2D"),
        down_block_types=("SkipDownBlock2D", "AttnDownBlock2D"),
        block_out_channels=(32, 32),
    )
    with pytest.raises(BadInput, match="ResNet blocks after"):
        split_shortcuts(model)
