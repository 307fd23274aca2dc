"""Claim: every contraction of a module is a named site or stops the run; watching leaves module and output alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_modules import Calls, Ignoring, as_model, keep_float, visited

from samplers.ddim import DDIM
from samplers.errors import BadInput
from simulator.arithmetic.geometry import Geometry
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.audit import UncoveredContraction
from simulator.instrument.contractions import Conv, Linear, MatMul
from simulator.instrument.forward import forward
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.instrument.survey import survey
from simulator.paired import Arm, run

pytestmark = pytest.mark.usefixtures("one_thread")

MODES = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
T = torch.zeros(2, dtype=torch.long)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(params=MODES)
def mode(request):
    with MODES[request.param]():
        yield


def test_survey__names_each_contraction_in_execution_order(tiny_model):
    assert [str(facts.key) for facts in survey(tiny_model)] == [
        "embed.0:linear", "embed.2:linear", "first:conv2d", "down:conv2d", "qkv:linear", "qk", "pv", "proj:linear",
        "last:conv2d",
    ]  # fmt: skip


def test_survey__gives_roles_shapes_and_multiply_accumulates(tiny_model):
    facts = {str(f.key): f for f in survey(tiny_model)}
    assert facts["qk"].roles == ("query", "key")
    assert facts["pv"].roles == ("probability", "value")
    assert facts["first:conv2d"].roles == ("input",)
    assert facts["qk"].weight_shape is None
    assert facts["down:conv2d"].weight_shape == (12, 12, 3, 3)
    macs = {name: f.macs for name, f in facts.items()}
    assert macs == {
        "embed.0:linear": 8 * 12, "embed.2:linear": 12 * 12, "first:conv2d": 8 * 8 * 12 * 9,
        "down:conv2d": 4 * 4 * 12 * 12 * 9, "qkv:linear": 16 * 12 * 36, "qk": 2 * 16 * 16 * 6, "pv": 2 * 16 * 16 * 6,
        "proj:linear": 16 * 12 * 12, "last:conv2d": 8 * 8 * 12 * 9,
    }  # fmt: skip


def test_survey__marks_the_layer_that_reads_the_sample_and_the_last_one(tiny_model):
    assert [str(f.key) for f in survey(tiny_model) if f.edge] == ["first:conv2d", "last:conv2d"]


def test_survey__takes_the_first_weighted_layer_where_none_reads_the_sample_itself():
    body = nn.Sequential(Calls(lambda x: 2 * x), nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 4))
    edges = [facts.edge for facts in survey(as_model(Ignoring(body), (4,)))]
    assert edges == [True, False, True]


def test_survey__refuses_a_network_without_a_contraction():
    with pytest.raises(BadInput, match="must have a contraction"):
        survey(as_model(Ignoring(nn.ReLU()), (4,)))


def test_survey__marks_no_edge_where_no_layer_has_a_weight():
    keys = torch.randn(1, 3, 4)
    body = Calls(lambda x: nn.functional.scaled_dot_product_attention(x[None], keys, keys)[0])
    found = survey(as_model(Ignoring(body), (4,)))
    assert [(str(facts.key), facts.edge) for facts in found] == [("body:qk", False), ("body:pv", False)]


def test_site__numbers_the_calls_of_a_module_that_runs_twice(mode):
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x, timestep):
            return self.layer(torch.relu(self.layer(x))) @ torch.eye(4) @ torch.eye(4)

    module = Twice()
    expected = ["layer:linear", "layer:linear#1", "matmul", "matmul#1"]
    assert visited(module, torch.randn(2, 4)) == expected
    assert visited(module, torch.randn(2, 4)) == expected  # counting starts afresh in each pass


def layers(*modules: nn.Module):
    return lambda: nn.Sequential(*modules)


def call(function):
    return lambda: Calls(function)


BIAS, KERNEL, TAPS = torch.ones(3), torch.ones(3, 4), torch.ones(2, 1, 2, 2)
FORMS = {
    "nn.Linear": (layers(nn.Linear(4, 4)), "linear"),
    "F.linear": (call(lambda x: F.linear(x, KERNEL)), "linear"),
    "F.linear keywords": (call(lambda x: F.linear(input=x, weight=KERNEL, bias=BIAS)), "linear"),
    "operator @": (call(lambda x: x @ x.transpose(-1, -2)), "matmul"),
    "torch.matmul": (call(lambda x: torch.matmul(x, x.transpose(-1, -2))), "matmul"),
    "Tensor.matmul": (call(lambda x: x.matmul(x.transpose(-1, -2))), "matmul"),
    "torch.bmm": (call(lambda x: torch.bmm(x, x.transpose(1, 2))), "matmul"),
    "Tensor.bmm": (call(lambda x: x.bmm(x.transpose(1, 2))), "matmul"),
    "broadcast matmul": (call(lambda x: x[:, None] @ torch.ones(4, 4)), "matmul"),
    "nn.Conv2d": (layers(nn.Unflatten(1, (3, 1)), nn.Conv2d(3, 2, (1, 3), stride=2, padding=1)), "conv2d"),
    "F.conv2d": (call(lambda x: F.conv2d(x[:, None], TAPS, stride=[1, 2], padding=(1, 0))), "conv2d"),
    "torch.conv2d": (call(lambda x: torch.conv2d(x[:, None], TAPS, None, (2, 1))), "conv2d"),
}


@pytest.mark.parametrize("form", FORMS)
def test_forward__sees_each_form_of_a_contraction_and_changes_no_output(form, mode):
    make, operation = FORMS[form]
    module, x = Ignoring(make()), torch.randn(2, 3, 4)
    assert [name.split(":")[-1] for name in visited(module, x)] == [operation]
    assert torch.allclose(forward(module, keep_float, x, T), module(x, T), rtol=0, atol=1e-6)


def test_forward__splits_attention_into_two_matmuls_and_a_softmax(mode):
    q, k, v = (torch.randn(2, 3, n, 4) for n in (5, 7, 7))
    for options in ({}, {"scale": 0.3}):
        module = Ignoring(Calls(lambda x, o=options: F.scaled_dot_product_attention(query=x, key=k, value=v, **o)))
        assert visited(module, q) == ["body:qk", "body:pv"]
        got = forward(module, keep_float, q, T)
        assert torch.allclose(got, module(q, T), rtol=0, atol=1e-6)


def test_forward__leaves_the_plain_modules_output_within_rounding(tiny_model, mode):
    x, t = torch.randn(3, 1, 8, 8), torch.tensor([0, 500, 999])
    got = forward(tiny_model.module, keep_float, x, t)
    assert torch.allclose(got, tiny_model.module(x, t), rtol=0, atol=1e-6)
    assert not got.requires_grad


def hooks_of(module: nn.Module) -> int:
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_forward_hooks_always_called", "_forward_hooks_with_kwargs")
    return sum(len(getattr(child, kind)) for child in module.modules() for kind in kinds)


def test_forward__removes_its_hooks(tiny_model):
    forward(tiny_model.module, keep_float, torch.zeros(2, 1, 8, 8), T)
    assert hooks_of(tiny_model.module) == 0


def test_forward__removes_its_hooks_and_leaves_its_modes_after_an_exception(tiny_model):
    def fail(site, contraction):
        if str(site) == "qk":
            raise ZeroDivisionError
        return contraction.float()

    module, x = tiny_model.module, torch.zeros(2, 1, 8, 8)
    with pytest.raises(ZeroDivisionError):
        forward(module, fail, x, T)
    assert hooks_of(module) == 0
    torch.mm(torch.ones(2, 2), torch.ones(2, 2))  # no audit is left behind
    assert visited(module, x) == [str(facts.key) for facts in survey(tiny_model)]
    # nor is the mark that a site is running: an uncovered contraction is still caught
    with pytest.raises(UncoveredContraction):
        forward(Ignoring(Calls(lambda x: torch.ops.aten.mm(x, x.T))), keep_float, torch.ones(2, 2), T)


def on_a_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_forward__works_on_a_thread_of_its_own(tiny_model):
    found = on_a_thread(lambda: visited(tiny_model.module, torch.zeros(2, 1, 8, 8)))
    assert found == [str(facts.key) for facts in survey(tiny_model)]


def test_forward__does_not_lose_a_layer_that_the_network_runs_on_another_thread():
    layer = nn.Linear(4, 4)
    module = Ignoring(nn.Sequential(nn.Linear(4, 4), Calls(lambda x: on_a_thread(lambda: layer(x)))))
    module.body[1].inner = layer
    with pytest.raises((UncoveredContraction, BadInput)):
        forward(module, keep_float, torch.zeros(2, 4), T)


def test_macs__are_counted_from_shapes():
    x = torch.zeros(3, 5, 7)
    assert Linear(x, torch.zeros(4, 7), None).macs == 3 * 5 * 7 * 4
    assert MatMul(x, torch.zeros(3, 6, 7), ("left", "right")).macs == 3 * 5 * 6 * 7
    conv = Conv(torch.zeros(2, 3, 9, 8), torch.zeros(4, 3, 3, 5), None, Geometry((2, 1), ((1, 1), (2, 2)), (1, 1)))
    assert conv.macs == 2 * 5 * 8 * 4 * 3 * 3 * 5
    assert conv.float().shape == (2, 4, 5, 8)


class SequenceFirst(nn.Module):
    """Runs its layer on (sequence, batch, width)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.attention = nn.Linear(4, 8), nn.MultiheadAttention(8, 2)
        self.last = nn.Linear(8, 4)

    def forward(self, x, timestep):
        rows = self.layer(x.flatten(1, 2).transpose(0, 1))
        return self.last(self.attention(rows, rows, rows)[0]).transpose(0, 1).reshape(x.shape)


def test_survey__finds_the_axis_of_the_samples():
    axes = {str(facts.key): facts.sample_axis for facts in survey(as_model(SequenceFirst(), (1, 5, 4)))}
    assert axes == {
        "layer:linear": 1, "attention:linear": 1, "attention:qk": 0, "attention:pv": 0, "attention:linear#1": 0,
        "last:linear": 1,
    }  # fmt: skip


def test_record__keeps_samples_apart_wherever_their_axis_lies():
    model = as_model(SequenceFirst(), (1, 5, 4))
    sampler = DDIM(model.schedule, 2)
    ranges = calibrate_ranges(model, sampler, samples=4)
    arm = Arm(QuantizedModel(model, Scheme.parse("w8a4"), ranges))
    whole, single = (run(arm, sampler, samples=4, batch_size=size, kinds=("injected",)) for size in (4, 1))
    names = ["layer:linear", "attention:linear", "attention:qk", "attention:pv", "last:linear"]
    got, want = (dataset.site_injected.isel(step=0).sel(site=names) for dataset in (whole, single))
    assert float(abs(got - want).max()) < 1e-5
    assert float(want.std("block").max()) > 1e-2  # samples differ, so that mixing them would show
