"""Claim: multiply-accumulates, bit operations and bytes are those of hand formulas, and each memory counts once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from aten_macs import aten_macs
from torch import nn
from torch_modules import Calls, Ignoring, as_model

from samplers.errors import BadInput
from simulator.arithmetic.block_formats import MXFP4, MXFP6_E2M3, NVFP4
from simulator.arithmetic.float_formats import FLOAT16
from simulator.arithmetic.scale_formats import FloatScale
from simulator.instrument import emulation
from simulator.instrument.accounting import Account, account
from simulator.instrument.forward import forward
from simulator.instrument.machines.blocks import Blocks
from simulator.instrument.plan import Plan
from simulator.instrument.scheme import Rule, Scheme, Settings
from simulator.instrument.survey import survey
from simulator.models.registry import load
from simulator.targets.named import target

T = torch.zeros(2, dtype=torch.long)
FLOAT = Settings(keep_float=True)


def accounted(body, shape, scheme, *, steps=None) -> Account:
    """The account of ``body(x)``; a scheme is a value, or settings of every site."""
    model = as_model(body if isinstance(body, Two) else Ignoring(body), shape)
    scheme = Scheme(scheme) if isinstance(scheme, Settings) else scheme
    return account(Plan(scheme, survey(model)), model.module, steps=steps)


class Two(nn.Module):
    """``function(a, b, x)`` of two layers."""

    def __init__(self, a, b, function) -> None:
        super().__init__()
        self.a, self.b, self.function = a, b, function

    def forward(self, x, timestep):
        return self.function(self.a, self.b, x)


def sizes(found: Account) -> tuple[int, int, int, int]:
    return found.weights.codes, found.weights.scales, found.weights.rest, found.weights.baseline


def test_account__of_a_linear_layer_with_a_ragged_last_group():
    found = accounted(nn.Linear(20, 7), (5, 20), Settings(weight_bits=3, group_size=8, activation_bits=6))
    (cost,) = found.passes[0]
    assert (cost.macs, cost.bits, cost.bops) == (5 * 20 * 7, (6, 3), 5 * 20 * 7 * 6 * 3)
    assert cost.shapes == ((1, 5, 20), (7, 20), (1, 5, 7))
    assert cost.weight_bytes == 53 + 4 * 7 * 3
    assert sizes(found) == (53, 4 * 7 * 3, 4 * 7, 4 * (7 * 20 + 7))  # 140 codes of 3 bits are 52.5 bytes
    assert found.weights.total == 53 + 84 + 28
    assert found.weights.ratio == 165 / 588
    assert found.float_bops == 5 * 20 * 7 * 1024


def test_account__of_a_grouped_convolution():
    layer = nn.Conv2d(6, 9, 3, stride=2, padding=1, groups=3)  # 7 -> 4; 2 channels each
    found = accounted(layer, (6, 7, 7), Settings(weight_bits=4, group_size=2, activation_bits=8))
    assert found.macs == 4 * 4 * 9 * 2 * 3 * 3
    assert found.bops == (found.macs * 32,)
    assert sizes(found) == (9 * 2 * 9 // 2, 4 * 9, 4 * 9, 4 * (9 * 2 * 9 + 9))


def test_account__of_a_transposed_convolution_has_its_outputs_on_the_second_axis():
    layer = nn.ConvTranspose2d(6, 4, 4, stride=2, groups=2, bias=False)  # weight (6, 2, 4, 4): 3 inputs, 4 outputs
    found = accounted(layer, (6, 5, 5), Settings(weight_bits=8, group_size=2, activation_bits=8))
    assert found.macs == 6 * 5 * 5 * 2 * 4 * 4
    assert sizes(found) == (6 * 2 * 16, 4 * 4 * 2, 0, 4 * 6 * 2 * 16)
    assert accounted(layer, (6, 5, 5), Settings()).weights.scales == 4 * 4


HEADS, TOKENS, KEYS, DEPTH = 4, 5, 7, 6
ATTENTION = Settings(query_bits=7, key_bits=3, probability_bits=5, value_bits=6)


@pytest.mark.parametrize("key_heads", [4, 2])
def test_account__of_attention_takes_each_operands_bits_and_every_query_head(key_heads):
    def attend(query_layer, key_layer, x):
        q = query_layer(x).unflatten(-1, (HEADS, DEPTH)).transpose(1, 2)
        k = key_layer(F.pad(x, (0, 0, 0, KEYS - TOKENS))).unflatten(-1, (key_heads, DEPTH)).transpose(1, 2)
        out = F.scaled_dot_product_attention(q, k, k, enable_gqa=key_heads < HEADS)
        return out.transpose(1, 2).flatten(2)

    body = Two(nn.Linear(3, HEADS * DEPTH), nn.Linear(3, key_heads * DEPTH), attend)
    found = accounted(body, (TOKENS, 3), Scheme(Settings(), (Rule(("@attention",), ATTENTION),)))
    _, _, scores, mixture = found.passes[0]
    assert scores.macs == mixture.macs == HEADS * TOKENS * KEYS * DEPTH
    assert (scores.bits, mixture.bits) == ((7, 3), (5, 6))
    assert scores.bops == HEADS * TOKENS * KEYS * DEPTH * 7 * 3
    assert mixture.weight_bytes == 0
    assert found.bops[0] == scores.bops + mixture.bops + TOKENS * 3 * HEADS * DEPTH * 64 + KEYS * 3 * key_heads * 6 * 64


BLOCKED = [("mxfp4", 4, 32, 0), ("mxfp6", 6, 32, 0), ("mxint8", 8, 32, 0), ("nvfp4", 4, 16, 4)]


@pytest.mark.parametrize(("name", "bits", "size", "whole"), BLOCKED)
def test_account__of_block_formats_counts_a_byte_for_each_block_of_each_tap(name, bits, size, whole):
    found = accounted(nn.Linear(70, 3), (5, 70), Settings(block=name))
    assert found.bops == (5 * 70 * 3 * bits**2,)
    blocks = -(-70 // size)
    assert sizes(found)[:3] == (-(-70 * 3 * bits // 8), 3 * blocks + whole, 4 * 3)
    conv = accounted(nn.Conv2d(40, 6, 3, groups=2, bias=False), (40, 5, 5), Settings(block=name))
    blocks = 6 * 9 * -(-20 // size)
    assert sizes(conv)[:3] == (6 * 20 * 9 * bits // 8, blocks + whole, 0)


@pytest.mark.parametrize("group_size", [0, 2, 5])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(13, 6), (3, 13)),
        (nn.Conv1d(6, 4, 3, groups=2), (6, 9)),
        (nn.ConvTranspose2d(9, 6, 2, groups=3), (9, 4, 4)),
    ],
)
def test_account__counts_the_scales_that_the_engine_prepares(layer, shape, group_size):
    model = as_model(Ignoring(layer), shape)
    plan = Plan(Scheme(Settings(group_size=group_size)), survey(model))
    scales = []

    def prepare(site, contraction):
        treatment = plan.at(site)
        scales.append(emulation.prepared(contraction, contraction.weight, treatment.weight).scale.size)
        return contraction.float()

    forward(model.module, prepare, torch.zeros(2, *shape), T)
    assert account(plan, model.module).weights.scales == 4 * sum(scales)


@pytest.mark.parametrize("format", [MXFP4, MXFP6_E2M3, NVFP4])
@pytest.mark.parametrize("layer", [nn.Linear(45, 6), nn.Conv2d(36, 4, 3, groups=1), nn.Conv1d(40, 4, 3, groups=2)])
def test_account__counts_the_blocks_that_the_engine_prepares(layer, format):
    shape = {2: (3, 45), 3: (40, 7), 4: (36, 5, 5)}[layer.weight.ndim]
    model = as_model(Ignoring(layer), shape)
    name = {MXFP4: "mxfp4", MXFP6_E2M3: "mxfp6", NVFP4: "nvfp4"}[format]
    scales = []

    def prepare(site, contraction):
        scales.extend(part.scale.size for part in Blocks(format).prepare(contraction, contraction.weight))
        return contraction.float()

    forward(model.module, prepare, torch.zeros(2, *shape), T)
    found = account(Plan(Scheme(Settings(block=name)), survey(model)), model.module)
    assert found.weights.scales == sum(scales) + (4 if format.two_level else 0)


def test_account__of_asymmetric_weights_counts_zero_points():
    body = nn.Linear(80, 6)
    scheme = Scheme(Settings(weight_bits=4, group_size=32), target=target("onnx-matmulnbits"))
    assert sizes(accounted(body, (3, 80), scheme)) == (240, 6 * 3 * 4 + 6 * 3 // 2, 24, 4 * 486)


def test_account__of_scales_in_float16_counts_two_bytes():
    machine = target("onnx-matmulnbits")
    halves = tuple(replace(spec, scale_format=FloatScale(FLOAT16), symmetric=True) for spec in machine.weights)
    scheme = Scheme(Settings(weight_bits=4, group_size=32), target=replace(machine, weights=halves))
    assert sizes(accounted(nn.Linear(80, 6), (3, 80), scheme)) == (240, 6 * 3 * 2, 24, 4 * 486)


def test_account__of_a_weight_at_several_sites_counts_it_once():
    a, b = nn.Linear(8, 8), nn.Linear(8, 8)
    b.weight = a.weight
    tied = accounted(Two(a, b, lambda a, b, x: b(a(a(x)))), (8,), Settings(weight_bits=4))
    assert tied.macs == 3 * 64
    assert [cost.weight_bytes for cost in tied.passes[0]] == [32 + 32] * 3
    assert sizes(tied) == (32, 32, 4 * 16, 4 * (64 + 16))


def test_account__of_a_tied_embedding_counts_codes_alone():
    table = nn.Embedding(10, 8)
    head = nn.Linear(8, 10, bias=False)
    head.weight = table.weight
    found = accounted(Two(table, head, lambda table, head, x: head(table(x.long()))), (3,), Settings())
    assert sizes(found) == (80, 40, 0, 320)


@pytest.mark.parametrize(("inputs", "outputs"), [(8, 6), (8, 8), (8, 1)])
def test_account__of_a_weight_used_both_ways_round_counts_both_codes(inputs, outputs):
    """Scales of rows and of columns give different codes of the same numbers."""
    a, size = nn.Linear(inputs, outputs, bias=False), inputs * outputs
    found = accounted(Two(a, nn.Identity(), lambda a, _, x: a(x) @ a.weight), (inputs,), Settings())
    assert found.passes[0][1].bits == (8, 8)
    assert sizes(found) == (2 * size, 4 * (inputs + outputs), 0, 4 * size)


def test_account__of_a_kernel_of_a_convolution_and_its_transpose_counts_both_codes():
    body = Two(nn.Conv1d(6, 6, 3, bias=False), nn.Identity(), lambda a, _, x: F.conv_transpose1d(a(x), a.weight))
    assert sizes(accounted(body, (6, 9), Settings())) == (2 * 108, 2 * 24, 0, 4 * 108)


def test_account__of_a_weight_as_a_pointwise_convolution_and_a_linear_layer_counts_one():
    class Shared(nn.Conv2d):
        def forward(self, x):
            x = super().forward(x)
            return F.linear(x.movedim(1, -1), self.weight.flatten(1))

    assert sizes(accounted(Shared(6, 6, 1, bias=False), (6, 3, 3), Settings())) == (36, 24, 0, 144)


def test_account__of_slices_of_one_parameter_counts_each_once():
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    body = Two(attention, nn.Identity(), lambda attention, _, x: attention(x, x[:, :3], x[:, 1:4])[0])
    found = accounted(body, (5, 8), Settings())
    assert [cost.shapes[1] for cost in found.passes[0]][:3] == [(8, 8)] * 3
    assert sizes(found) == (4 * 64, 4 * 32, 4 * 32, 4 * (4 * 64 + 32))


def test_account__of_a_part_of_a_parameter_keeps_the_rest_in_float():
    body = Two(nn.Linear(8, 6, bias=False), nn.Identity(), lambda a, _, x: F.linear(x, a.weight[1:, 1::2]))
    assert sizes(accounted(body, (4,), Settings())) == (5 * 4, 4 * 5, 4 * (48 - 20), 4 * 48)


def test_account__of_entries_that_overlap_counts_each_element_once():
    whole = torch.randn(10, 8)
    net = Two(nn.Identity(), nn.Identity(), lambda a, b, x: F.linear(x, a.lower) + b(a.own(x)))
    for name, part in (("lower", whole[4:]), ("upper", whole[:6]), ("inner", whole[1:2])):
        net.a.register_buffer(name, part)
    net.a.own = nn.Linear(8, 6, bias=False)
    assert sizes(accounted(net, (8,), Settings())) == (48 + 48, 24 + 24, 4 * 32, 4 * (80 + 48))


def test_account__of_a_complex_weight_counts_both_its_parts():
    class Rotated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 5, dtype=torch.complex64))

        def forward(self, x):
            return torch.matmul(x.to(torch.complex64), self.weight).real

    found = accounted(nn.Sequential(nn.Linear(6, 6, bias=False), Rotated()), (6,), Settings())
    assert [cost.macs for cost in found.passes[0]] == [36] + 4 * [30]
    assert found.weights.codes == 36 + 2 * 30
    assert found.weights.baseline == 4 * (36 + 60)


def test_account__of_different_specs_of_one_weight_counts_each():
    a = nn.Linear(8, 8, bias=False)
    scheme = Scheme(Settings(), (Rule(("a:linear#1",), Settings(weight_bits=4)),))
    twice = Two(a, nn.Identity(), lambda a, _, x: a(a(x)))
    assert sizes(accounted(twice, (8,), scheme)) == (64 + 32, 2 * 32, 0, 256)
    scheme = Scheme(Settings(), (Rule(("a:linear#1",), FLOAT),))
    found = accounted(twice, (8,), scheme)
    assert sizes(found) == (64, 32, 256, 256)
    assert [(cost.bits, cost.weight_bytes) for cost in found.passes[0]] == [((8, 8), 96), ((32, 32), 256)]


def test_account__of_float_alone_is_the_baseline():
    found = accounted(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)), (2, 5, 5), FLOAT)
    assert found.bops == (found.float_bops,)
    assert found.bops_ratio == 1.0
    assert sizes(found) == (0, 0, 4 * (54 + 3 + 4 * 3) + 8, 4 * (54 + 3 + 4 * 3) + 8)  # and a count of batches, int64


def test_account__of_computed_weights_says_so_and_counts_what_is_stored():
    body = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 6)), nn.Linear(6, 4))
    found = accounted(body, (8,), Settings())
    assert found.computed == ("body.0:linear",)
    assert [cost.weight_bytes for cost in found.passes[0]] == [None, 24 + 16]
    assert sizes(found) == (24, 16, 4 * (6 * 8 + 6 + 6 + 4), 4 * (6 * 8 + 6 + 6 + 6 * 4 + 4))


def test_account__of_steps_takes_each_steps_bits_and_every_code_once():
    body = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 4, bias=False))
    rules = (
        Rule(("body.0",), Settings(weight_bits=4), (1, 3)),
        Rule(("body.1",), Settings(activation_bits=4), (0, 1)),
        Rule(("body.0",), Settings(weight_bits=2), (9, 12)),
    )
    scheme = Scheme(Settings(), rules)
    found = accounted(body, (8,), scheme, steps=5)
    assert found.bops == tuple(64 * 8 * w + 32 * 8 * a for w, a in [(8, 4), (4, 8), (4, 8), (8, 8), (8, 8)])
    assert found.total_bops == sum(found.bops)
    assert (found.total_macs, found.macs) == (5 * 96, 96)
    assert found.bops_ratio == sum(found.bops) / (5 * 96 * 1024)
    assert sizes(found) == (64 + 32 + 32, 32 + 32 + 16, 0, 4 * 96)  # the third rule's steps do not come
    with pytest.raises(BadInput, match="number of steps"):
        accounted(body, (8,), scheme)
    alike = accounted(body, (8,), Settings(), steps=5)
    assert (alike.bops, alike.total_bops) == ((96 * 64,), 5 * 96 * 64)


def test_account__of_a_site_that_runs_once_for_all_samples_counts_it_once():
    def function(a, b, x):
        return a(x) + b(torch.ones(3, 8)).sum(0)

    found = accounted(Two(nn.Linear(8, 8), nn.Linear(8, 8), function), (8,), Settings())
    assert [cost.macs for cost in found.passes[0]] == [64, 3 * 64]
    assert found.passes[0][1].shapes == ((3, 8), (8, 8), (3, 8))


def test_account__of_another_module_is_refused():
    model = as_model(Ignoring(nn.Linear(8, 8)), (8,))
    plan = Plan(Scheme(), survey(model))
    for other in (nn.Conv2d(3, 3, 3), Ignoring(nn.Linear(7, 8))):
        with pytest.raises(BadInput, match="own survey"):
            account(plan, other)
        with pytest.raises(BadInput, match="own survey"):
            account(Plan(Scheme(FLOAT), plan.sites), other)


def test_account__of_the_tiny_model_by_hand(tiny_model):
    found = account(Plan(Scheme.parse("w4a8-attn6"), survey(tiny_model)), tiny_model.module)
    macs = {
        "embed.0:linear": 8 * 12, "embed.2:linear": 12 * 12, "first:conv2d": 64 * 12 * 1 * 9,
        "down:conv2d": 16 * 12 * 12 * 9, "qkv:linear": 16 * 12 * 36, "qk": 2 * 16 * 16 * 6, "pv": 2 * 16 * 16 * 6,
        "proj:linear": 16 * 12 * 12, "last:conv2d": 64 * 1 * 12 * 9,
    }  # fmt: skip
    assert {str(cost.site): cost.macs for cost in found.passes[0]} == macs
    edges, attention = macs["first:conv2d"] + macs["last:conv2d"], macs["qk"] + macs["pv"]
    inner = sum(macs.values()) - edges - attention
    assert found.bops == (edges * 64 + attention * 36 + inner * 32,)
    weights = 96 + 144 + 12 * 12 * 9 + 12 * 36 + 144
    outputs = 12 + 12 + 12 + 36 + 12
    vectors = 12 + 12 + 12 + 12 + 24 + 36 + 12 + 1  # biases, and the norm's pair
    assert sizes(found) == (weights // 2 + 2 * 108, 4 * (outputs + 12 + 1), 4 * vectors, 4 * (weights + 216 + vectors))


@pytest.mark.parametrize("name", ["digits-unet", "digits-dit", "digits-latent"])
def test_account__of_shipped_models_is_what_aten_counts_and_the_weights_file_holds(name):
    model = load(name)
    x, timestep = torch.zeros(1, *model.sample_shape), torch.zeros(1, dtype=torch.long)
    sites = survey(model)
    found = account(Plan(Scheme.parse("w8a8"), sites), model.module, steps=50)
    assert found.macs == aten_macs(model.module, x, timestep)
    assert found.total_bops == 50 * 64 * found.macs
    weights = sum(cost.weight_bytes for cost in found.passes[0])
    assert weights == found.weights.codes + found.weights.scales
    assert found.weights.baseline == 4 * sum(p.numel() for p in model.module.parameters())
    assert found.weights.rest == found.weights.baseline - 4 * found.weights.codes
    four = account(Plan(Scheme.parse("w4a8"), sites), model.module)
    edges = sum(cost.weight_bytes for cost, f in zip(found.passes[0], sites, strict=True) if f.edge)
    scales = sum(4 * f.weight_shape[0] for f in sites if f.edge)
    assert four.weights.codes == (found.weights.codes - edges + scales) // 2 + edges - scales


def test_survey__finds_products_of_run_time_operands_without_a_weight():
    model = as_model(Ignoring(nn.Sequential(nn.Linear(4, 4), Calls(lambda x: x @ x.transpose(-1, -2)))), (3, 4))
    weighted, product = survey(model)
    assert weighted.stored is not None
    assert weighted.stored.memory == "body.0.weight"
    assert (product.stored, product.shapes) == (None, ((1, 3, 4), (1, 3, 4), (1, 3, 3)))
