"""Claim: the shipped models, exported, run in ONNX Runtime with the simulator's codes at every site.

Every convolution, linear layer and attention product of the optimized graph is an integer operator, and gives what the
simulator gives under the target ``onnxruntime`` for the codes that it read: in the whole network, whose optimized graph
is watched without being optimized again, and alone, cut from the export. The networks as wholes differ only where float
operations between the sites, which torch and the runtime round differently, turn a code at a tie.
"""

from __future__ import annotations

import os
import platform
import sys
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

try:
    import onnxruntime
    from onnx import ModelProto, numpy_helper
except ImportError as error:
    if os.environ.get("QNOISE_REQUIRE_PEERS") == "1":
        raise
    pytest.skip(f"onnxruntime or onnx is absent: {error}", allow_module_level=True)

from deployed_models import deployed, deployed_module
from torch_modules import Calls

from samplers.ddim import DDIM
from samplers.errors import BadInput
from samplers.loop import sample
from samplers.noise import NoiseStream
from simulator.arithmetic.operands import ScaledFormat
from simulator.instrument.contractions import Conv, Linear, MatMul
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.sites import SiteKey
from simulator.models.registry import load
from simulator.onnx_export.codes import operand_codes, site_codes
from simulator.onnx_export.comparison import compare, float_operators
from simulator.onnx_export.cutting import cut
from simulator.onnx_export.export import export_model
from simulator.onnx_export.runtime import Session
from simulator.onnx_export.site import ACTIVATION, DeployedSite, deployed_sites
from simulator.onnx_export.trajectories import compare_trajectories
from studies import cli

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        platform.machine() in ("x86_64", "AMD64") and not torch.cpu._is_vnni_supported(),
        reason="without VNNI the runtime's byte products saturate in pairs on x86, which the target does not claim",
    ),
]

OPERATORS = {Conv: "QLinearConv", Linear: "QGemm", MatMul: "QLinearMatMul"}
SITES = {"digits-unet": {"QLinearConv": 14, "QGemm": 10, "QLinearMatMul": 2},
         "digits-dit": {"QLinearConv": 1, "QGemm": 32, "QLinearMatMul": 8}}  # fmt: skip
FLOAT_PRODUCTS = {
    "Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "Einsum", "Attention", "MultiHeadAttention",
    "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulInteger", "ConvInteger",
}  # fmt: skip
LEVELS = {name: getattr(onnxruntime.GraphOptimizationLevel, name) for name in ("ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")}
every_level = pytest.mark.parametrize("level", LEVELS)
SAMPLES, STEPS = 3, 10

Inputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Deployment:
    """A shipped model's export, and inputs from its full-precision trajectory on samples that fitted nothing."""

    quantized: QuantizedModel
    sites: dict[SiteKey, DeployedSite]
    exported: ModelProto
    inputs: Inputs


def as_inputs(x: torch.Tensor, timestep: torch.Tensor) -> Inputs:
    return {"x": x.numpy(), "timestep": timestep.numpy()}


@pytest.fixture(scope="module", params=sorted(SITES))
def deployment(request, one_thread) -> Deployment:
    model = load(request.param)
    quantized = deployed(model, steps=STEPS, samples=32)
    sampler, passes = DDIM(model.schedule, STEPS), []

    def denoise(x, timestep):
        passes.append((x, timestep))
        return model.module(x, timestep)

    sample(denoise, sampler, NoiseStream(0, "evaluate"), range(SAMPLES), model.sample_shape)
    sites = deployed_sites(quantized)
    inputs = as_inputs(*(torch.cat(parts) for parts in zip(*passes, strict=True)))
    return Deployment(quantized, sites, export_model(quantized, sites), inputs)


@pytest.fixture(scope="module")
def session(deployment) -> Session:
    return Session(deployment.exported, deployment.sites)


def operators(graph: ModelProto) -> list[str]:
    return [node.op_type for node in graph.graph.node]


def codes_into(part: ModelProto, operands: tuple[np.ndarray, ...]) -> Inputs:
    """Operands in a site's layout as the inputs of its cut, whose second operand has the depth first."""
    given = [operands[0], *(codes.swapaxes(-1, -2) for codes in operands[1:])]
    return {entry.name: np.ascontiguousarray(codes) for entry, codes in zip(part.graph.input, given, strict=True)}


def edited(model: ModelProto, name: str, change) -> ModelProto:
    """A copy in which one constant is another array."""
    copy = ModelProto()
    copy.CopyFrom(model)
    (constant,) = (c for c in copy.graph.initializer if c.name == name)
    constant.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(constant).copy()), name))
    return copy


def test_export__has_every_site_of_the_simulator_and_only_onnx_operators(deployment):
    assert tuple(deployment.sites) == tuple(facts.key for facts in deployment.quantized.sites)
    names = Counter(node.name for node in deployment.exported.graph.node)
    assert all(names[str(key)] == 1 for key in deployment.sites)
    assert {node.domain for node in deployment.exported.graph.node} == {""}
    assert [(entry.domain, entry.version) for entry in deployment.exported.opset_import] == [("", 20)]
    plain = {"Conv", "Gemm", "MatMul"}
    of_sites = [n.op_type for n in deployment.exported.graph.node if n.op_type in plain]
    assert len(of_sites) == len(deployment.sites)


def test_export__has_the_same_bytes_again(deployment):
    again = export_model(deployment.quantized, deployed_sites(deployment.quantized))
    assert again.SerializeToString() == deployment.exported.SerializeToString()


@every_level
def test_optimized_graph__has_an_integer_operator_at_every_site_and_no_float_product(deployment, level):
    session = Session(deployment.exported, deployment.sites, LEVELS[level])
    for key, node in session.nodes.items():
        assert node.op_type == OPERATORS[type(deployment.sites[key].contraction)], key
    model = deployment.quantized.model.name
    assert Counter(node.op_type for node in session.nodes.values()) == SITES[model]
    found = Counter(operators(session.optimized))
    assert {name: found[name] for name in SITES[model]} == SITES[model]
    assert not FLOAT_PRODUCTS & set(found)


@every_level
def test_every_site__has_the_simulators_codes_in_the_whole_network(deployment, level):
    session = Session(deployment.exported, deployment.sites, LEVELS[level])
    _, tensors = session.watched(deployment.inputs)
    assert tuple(tensors) == tuple(deployment.sites)
    for key, found in tensors.items():
        ours = site_codes(deployment.sites[key], *found.operands)
        assert ours.dtype == found.output.dtype == np.uint8
        assert ours.shape == found.output.shape, key
        assert np.count_nonzero(ours != found.output) == 0, key
        assert len(np.unique(found.output)) > 20, key  # it is no constant that agrees


def test_every_site__alone_is_one_integer_operator_with_the_simulators_codes(deployment, session):
    rng = np.random.default_rng(9)
    _, tensors = session.watched(deployment.inputs)
    for key, site in deployment.sites.items():
        part = cut(deployment.exported, key)
        alone = Session(part, {key: site}, LEVELS["ORT_ENABLE_EXTENDED"])
        assert operators(alone.optimized) == [OPERATORS[type(site.contraction)]], key
        real = tensors[key].operands
        anything = tuple(rng.integers(0, 256, codes.shape, dtype=np.uint8) for codes in real)
        for operands in (real, anything):
            theirs = alone(codes_into(part, operands))
            assert np.count_nonzero(site_codes(site, *operands) != theirs) == 0, key
        assert np.array_equal(alone(codes_into(part, real)), tensors[key].output), key


def test_every_quantizer__has_the_simulators_codes(deployment, session):
    constants = {c.name: numpy_helper.to_array(c) for c in session.optimized.graph.initializer}
    made = {name: node for node in session.optimized.graph.node for name in node.output}
    # what comes from codes is not rounded again, and cannot be watched
    nodes = [
        node for node in made.values() if node.op_type == "QuantizeLinear" and (
            node.input[0] not in made or made[node.input[0]].op_type != "DequantizeLinear"
        )
    ]  # fmt: skip
    tensors = session.inner([name for node in nodes for name in (node.input[0], node.output[0])], deployment.inputs)
    for node in nodes:
        x, codes = tensors.get(node.input[0], deployment.inputs.get(node.input[0])), tensors[node.output[0]]
        scale, zero = (constants[name] for name in node.input[1:])
        ours = operand_codes(ScaledFormat(ACTIVATION, np.float32(scale), int(zero)), x)
        assert np.count_nonzero(ours != codes) == 0, node.name
    assert len(nodes) > len(deployment.sites) / 2  # some operands share their codes


def test_whole_networks__differ_only_behind_a_code_turned_at_a_tie(deployment, session):
    model = deployment.quantized.model
    sampler = DDIM(model.schedule, STEPS)
    found = compare_trajectories(deployment.quantized, session, sampler, samples=8)
    assert len(found.passes) == 8 * STEPS
    assert found.mismatches == 0
    turned = 0
    for one in found.passes:
        first = one.comparison.first
        if first is None:
            assert one.comparison.differing == 0
            continue
        site, role = first
        turned += 1
        # a float32 operand of a few hundred steps, a dozen roundings behind the codes, is uncertain by 1e-4 steps
        assert site.from_tie < 1e-3, one
        assert site.largest == 1 or site.output, one
        assert float_operators(deployment.exported, site.key, role), one
    assert sum(row.passes for row in found.firsts) == turned
    assert turned < len(found.passes) / 4
    assert found.unequal <= turned


def first_samples(deployment: Deployment, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    x, timestep = (torch.from_numpy(deployment.inputs[name][:count]) for name in ("x", "timestep"))
    return x, timestep


PLANTED = {
    "digits-unet": ("down.0.time:linear", "down.0.conv2:conv2d"),
    "digits-dit": ("time_embedding.linear1:linear", "time_embedding.linear2:linear"),
}
"""A site, and the one that reads it next."""


def test_a_planted_float_difference__is_traced_to_the_first_operand_behind_it(deployment):
    before, behind = PLANTED[deployment.quantized.model.name]
    model = ModelProto()
    model.CopyFrom(deployment.exported)
    name = f"{before}/output/scale"
    (scale,) = (numpy_helper.to_array(c) for c in model.graph.initializer if c.name == name)
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(scale * np.float32(1.05)), "planted"))
    (node,) = (n for n in model.graph.node if n.op_type == "DequantizeLinear" and name in n.input)
    node.input[1] = "planted"  # the site gives its codes, and what follows takes them for other reals
    found = compare(deployment.quantized, Session(model, deployment.sites), *first_samples(deployment, 4))
    assert found.differing
    assert sum(site.mismatches for site in found.sites) == 0
    site, role = found.first
    assert (str(site.key), role) == (behind, "input")
    assert site.from_tie > 0.1  # reals 5 % off turn more than codes at a tie


def test_float_operators__are_what_rounds_before_an_operand(deployment):
    between = {
        "digits-unet": ("mid.attention:pv", "probability", {"Mul", "Softmax"}),
        "digits-dit": ("blocks.2.mlp.linear2:linear", "input", {"Gelu"}),
    }
    name, role, wanted = between[deployment.quantized.model.name]
    (key,) = (key for key in deployment.sites if str(key) == name)
    assert set(float_operators(deployment.exported, key, role)) == wanted
    embedding = next(key for key in deployment.sites if key.module == "time_embedding.linear1")
    assert {"Sin", "Cos"} <= set(float_operators(deployment.exported, embedding, "input"))


def test_a_planted_weight_code__is_a_mismatch_of_its_site_alone(deployment):
    key = [key for key, site in deployment.sites.items() if site.weight is not None][7]

    def first_channel_negated(codes):
        codes[0] = -codes[0]
        return codes

    model = edited(deployment.exported, f"{key}/weight/codes", first_channel_negated)
    found = compare(deployment.quantized, Session(model, deployment.sites), *first_samples(deployment, 4))
    assert [site.key for site in found.sites if site.mismatches] == [key]
    before = [site for site in found.sites[: found.sites.index(found.first[0])]]
    assert not any(sum(site.operands.values()) for site in before)
    assert key in {site.key for site in before}


def test_a_site_without_an_integer_operator__is_an_error(deployment):
    """Without its output quantizer a convolution has no integer operator, and a matmul has one that gives floats."""
    operations = ("qk", "patches" if deployment.quantized.model.name == "digits-dit" else "conv_in")
    for key in (key for key in deployment.sites if key.operation in operations or key.module in operations):
        model = ModelProto()
        model.CopyFrom(deployment.exported)
        (back,) = (n for n in model.graph.node if n.name == f"{key}/output/dequantize")
        (quantize,) = (n for n in model.graph.node if n.name == f"{key}/output/codes")
        for node in model.graph.node:
            for place, name in enumerate(node.input):
                if name == back.output[0]:
                    node.input[place] = quantize.input[0]
        model.graph.node.remove(back)
        model.graph.node.remove(quantize)
        with pytest.raises(BadInput, match="every site must become an integer operator") as refused:
            Session(model, deployment.sites)
        assert str(key) in str(refused.value)


@pytest.mark.parametrize("batch", [1, 5])
def test_any_batch__runs_in_one_export(deployment, session, batch):
    x, timestep = first_samples(deployment, batch)
    output, tensors = session.watched(as_inputs(x, timestep))
    assert output.shape == x.shape
    for key, found in tensors.items():
        assert np.array_equal(site_codes(deployment.sites[key], *found.operands), found.output), key


# Forms of contraction that the shipped models do not have.


class SharedKeys(nn.Module):
    """Four query heads over one head of keys and values, which broadcasts."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Linear(8, 32)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        heads = self.queries(tokens).unflatten(-1, (4, 8)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(heads, tokens[:, None], tokens[:, None])
        return mixed.mean(1).transpose(1, 2).reshape(x.shape)


class OnRows(nn.Module):
    """A linear layer over the last axis of (batch, 3, 8, 8), with or without a bias."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8, bias=bias)

    def forward(self, x):
        return self.layer(x)


class TorchAttention(nn.Module):
    """``nn.MultiheadAttention`` over (batch, tokens, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


class Einsum(nn.Module):
    """A weight that is contracted from the left, and a product of two activations."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4, 4))

    def forward(self, x):
        y = torch.einsum("oc,ncl->nol", self.weight, x)
        return torch.einsum("ncl,ncm,nom->nol", y.tanh(), y, x.sigmoid())


FORMS = {
    "convolution of one axis": (nn.Conv1d(4, 4, 3, padding=1), (4, 16)),
    "convolution of three axes": (nn.Conv3d(2, 2, 3, padding=1), (2, 4, 4, 4)),
    "padding at one end": (nn.Conv2d(4, 4, (4, 2), padding="same", bias=False), (4, 6, 6)),
    "groups and dilation": (nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2), (4, 6, 6)),
    "depthwise": (nn.Conv2d(8, 8, 3, padding=1, groups=8), (8, 6, 6)),
    "linear of four axes": (OnRows(True), (3, 8, 8)),
    "linear without a bias": (OnRows(False), (3, 8, 8)),
    "heads that share keys": (SharedKeys(), (8, 4, 4)),
    "torch's own attention": (TorchAttention(), (16, 8)),
    "einsum": (Einsum(), (4, 6)),
}


@pytest.mark.parametrize("form", FORMS)
def test_other_forms__have_the_simulators_codes_too(form):
    body, shape = FORMS[form]
    quantized = deployed_module(body, shape)
    sites = deployed_sites(quantized)
    found = Session(export_model(quantized, sites), sites)
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(2))
    compared = compare(quantized, found, x, torch.tensor([5, 50, 500]))
    assert [site.key for site in compared.sites] == [facts.key for facts in quantized.sites]
    assert all(site.mismatches == 0 and site.elements for site in compared.sites)


def test_a_function_without_an_onnx_operator__is_refused():
    quantized = deployed_module(nn.Sequential(nn.Conv2d(2, 2, 1), Calls(torch.special.bessel_j0)), (2, 4, 4))
    with pytest.raises(BadInput, match="bessel"):
        export_model(quantized, deployed_sites(quantized))


def test_a_site_that_stays_in_float__is_a_float_operator():
    body = nn.Sequential(nn.Conv2d(2, 4, 2, stride=2), nn.ConvTranspose2d(4, 2, 2, stride=2))
    quantized = deployed_module(body, (2, 8, 8), allow_float=("body.1",))
    sites = deployed_sites(quantized)
    session = Session(export_model(quantized, sites), sites)
    assert [str(key) for key in session.nodes] == ["body.0:conv2d"]
    assert "ConvTranspose" in operators(session.optimized)


def test_export_onnx__writes_a_checked_file_and_replaces_none_unasked(monkeypatch, capsys, tmp_path):
    path = tmp_path / "unet.onnx"
    arguments = ["export-onnx", "digits-unet", "--steps", "2", "--calibration-samples", "16", "--threads", "1"]

    def qnoise(*more: str) -> int:
        monkeypatch.setattr(sys, "argv", ["qnoise", *arguments, "--output", str(path), *more])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0)

    assert qnoise("--check", "2") == 0
    assert "sites, given the same operands: 0 of 102272 codes differ" in capsys.readouterr().out
    written = path.read_bytes()
    assert list(tmp_path.iterdir()) == [path]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    shape = session.run(None, as_inputs(torch.zeros(3, 1, 8, 8), torch.tensor([1, 2, 3])))[0].shape
    assert shape == (3, 1, 8, 8)
    assert qnoise() == 2
    assert "replaces no file unasked" in capsys.readouterr().err
    assert path.read_bytes() == written
    assert qnoise("--replace", "--seed", "1") == 0
    assert path.read_bytes() != written
    assert list(tmp_path.iterdir()) == [path]


def test_export_onnx__ends_with_1_where_a_site_differs(monkeypatch, capsys, tmp_path):
    from simulator.onnx_export import comparison

    def wrong(site, *operands):
        return site_codes(site, *operands) ^ 1

    monkeypatch.setattr(comparison, "site_codes", wrong)
    options = ["--steps", "1", "--calibration-samples", "16", "--threads", "1", "--check", "1"]
    monkeypatch.setattr(
        sys, "argv", ["qnoise", "export-onnx", "digits-unet", "--output", str(tmp_path / "a"), *options]
    )
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    assert "25568 of 25568 codes differ" in capsys.readouterr().out
