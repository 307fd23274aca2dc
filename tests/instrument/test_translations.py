"""Claim: each torch contraction becomes named sites with the MACs of a hand formula, keeps its float result, passes the
audit in every grad mode, and runs in integers with the engine's bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from engine_calls import by_engine, by_float64
from torch import nn
from torch_modules import Calls, Ignoring, as_model, keep_float

from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.operands import ScaledFormat
from simulator.arithmetic.quantizer import QuantSpec
from simulator.calibration.collector import Collector
from simulator.instrument import emulation
from simulator.instrument.contractions import Linear, MatMul
from simulator.instrument.forward import forward
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:torch.chain_matmul is deprecated", "ignore:Using padding='same'"),  # torch's own
]

T = torch.zeros(2, dtype=torch.long)
MODES = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        yield


class With(nn.Module):
    """``function(module, x)`` with parameters of the given shapes."""

    def __init__(self, function, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


@dataclass
class Form:
    """A module of one contraction, the shape of a batch, its sites with their MACs, and whether torch's bits stay."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    sites: dict[str, int]
    same_bits: bool = True


def call(function, shape, sites, same_bits=True, **parameters) -> Form:
    return Form(lambda: With(lambda module, x: function(x, module), **parameters), shape, sites, same_bits)


def layer(make: Callable[[], nn.Module], shape, sites, same_bits=True) -> Form:
    return Form(make, shape, sites, same_bits)


def swap(x):
    return x.transpose(-1, -2)


NAN = torch.full((3, 3), float("nan"))
X = (2, 3, 4)
WEIGHT = {"w": (4, 5)}
ROWS = 2 * 3
FORMS = {
    "linear": layer(lambda: nn.Linear(4, 5), X, {"linear": ROWS * 4 * 5}),
    "linear of strided rows": call(lambda x, m: F.linear(swap(x), m.w), (2, 4, 3), {"linear": ROWS * 4 * 5}, w=(5, 4)),
    "linear to a scalar": call(lambda x, m: F.linear(x, m.w), X, {"linear": ROWS * 4}, w=(4,)),
    "matmul": call(lambda x, m: x @ swap(x), X, {"matmul": 2 * 3 * 3 * 4}),
    "matmul with a weight": call(lambda x, m: x @ m.w, X, {"matmul": ROWS * 4 * 5}, False, **WEIGHT),
    "matmul of a weight": call(lambda x, m: m.w @ x, X, {"matmul": 2 * 4 * 3 * 6}, False, w=(6, 3)),
    "matmul, broadcast left": call(lambda x, m: x[:, :1] @ (2 * swap(x))[:, None], X, {"matmul": 2 * 2 * 4 * 3}),
    "matmul, broadcast right": call(lambda x, m: x[:, None] @ (2 * swap(x))[:1, None], X, {"matmul": ROWS * 4 * 3}),
    "matmul with one matrix": call(lambda x, m: x[:, None] @ (2 * x[0, :2].T), X, {"matmul": ROWS * 4 * 2}, False),
    "matmul of one matrix": call(lambda x, m: (2 * x[0, :2]) @ swap(x)[:, None], X, {"matmul": ROWS * 4 * 2}, False),
    "matmul with a vector": call(lambda x, m: x @ (2 * x[0, 0]), X, {"matmul": ROWS * 4}, False),
    "vector with matmul": call(lambda x, m: (2 * x[0, 0]) @ swap(x), X, {"matmul": ROWS * 4}, False),
    "vector with a weight": call(lambda x, m: x @ m.w, X, {"matmul": ROWS * 4}, False, w=(4,)),
    "reflected": call(lambda x, m: swap(x).__rmatmul__(2 * x), X, {"matmul": 2 * 9 * 4}),
    "bmm": call(lambda x, m: torch.bmm(x, swap(x)), X, {"matmul": 2 * 9 * 4}),
    "bmm with an expanded weight": call(
        lambda x, m: x.bmm(m.w.expand(2, 4, 5)), X, {"matmul": ROWS * 4 * 5}, False, **WEIGHT
    ),
    "rows with an expanded weight": call(
        lambda x, m: x @ m.w.expand(6, 4, 5), (3, 4), {"matmul": 3 * 4 * 5}, False, **WEIGHT
    ),
    "an expanded weight with columns": call(
        lambda x, m: m.w.expand(6, 5, 4) @ x, (4, 3), {"matmul": 3 * 4 * 5}, False, w=(5, 4)
    ),
    "mm": call(lambda x, m: torch.mm(x, m.w), (3, 4), {"matmul": 3 * 4 * 5}, **WEIGHT),
    "mm out": call(lambda x, m: torch.mm(x, m.w, out=torch.empty(0)), (3, 4), {"matmul": 3 * 4 * 5}, **WEIGHT),
    "mv": call(lambda x, m: torch.mv(x, m.w), (3, 4), {"matmul": 12}, False, w=(4,)),
    "dot": call(lambda x, m: torch.dot(x[0], 2 * x[1]), (2, 4), {"matmul": 4}, False),
    "vdot": call(lambda x, m: torch.vdot(x[0], 2 * x[1]), (2, 4), {"matmul": 4}, False),
    "vecdot": call(lambda x, m: torch.linalg.vecdot(x, 2 * x, dim=1), X, {"matmul": 2 * 3 * 4}, False),
    "inner of vectors": call(lambda x, m: torch.inner(x[0], 2 * x[1]), (2, 4), {"matmul": 4}, False),
    "inner": call(lambda x, m: torch.inner(x, m.w), X, {"matmul": ROWS * 4 * 5}, False, w=(5, 4)),
    "multi_dot": call(
        lambda x, m: torch.linalg.multi_dot([x, m.w, m.v]), (3, 4), {"matmul": 60, "matmul#1": 30}, False, w=(4, 5),
        v=(5, 2),
    ),
    "chain_matmul": call(
        lambda x, m: torch.chain_matmul(x, m.w, m.v), (3, 4), {"matmul": 60, "matmul#1": 30}, False, w=(4, 5), v=(5, 2)
    ),
    "addmm": call(lambda x, m: torch.addmm(m.b, x, m.w), (3, 4), {"addmm": 60}, b=(5,), **WEIGHT),
    "addmm scaled": call(
        lambda x, m: torch.addmm(x[:, :1], x, m.w, beta=0.5, alpha=-2), (3, 4), {"addmm": 60}, False, **WEIGHT
    ),
    "addmm_": call(lambda x, m: (0 * x[:, :3]).addmm_(x, swap(x)), (3, 4), {"addmm": 36}, False),
    "addmv": call(lambda x, m: torch.addmv(x[:, 0], x, m.w, alpha=2), (3, 4), {"addmv": 12}, False, w=(4,)),
    "baddbmm": call(lambda x, m: torch.baddbmm(x[..., :1], x, swap(x), beta=2), X, {"baddbmm": 72}, False),
    "baddbmm that reads nothing": call(
        lambda x, m: torch.baddbmm(NAN, x, swap(x), beta=0, alpha=0.5), X, {"baddbmm": 72}, False
    ),
    "baddbmm_": call(lambda x, m: torch.ones(2, 3, 3).baddbmm_(x, swap(x)), X, {"baddbmm": 72}, False),
    "addbmm": call(lambda x, m: torch.addbmm(x[0, :, :3], x, swap(x)), X, {"addbmm": 72}, False),
    "bilinear": call(
        lambda x, m: F.bilinear(x, x[..., :2], m.w, m.b), X, {"bilinear": ROWS * 4 * 10, "bilinear#1": ROWS * 5 * 2},
        False, w=(5, 4, 2), b=(5,),
    ),
    "tensordot": call(
        lambda x, m: torch.tensordot(x, m.w, dims=([2, 1], [0, 1])), X, {"tensordot": 2 * 12 * 5}, False, w=(4, 3, 5)
    ),
    "tensordot of the last axes": call(lambda x, m: torch.tensordot(x, m.w, 1), X, {"tensordot": 120}, False, **WEIGHT),
    "conv1d": layer(lambda: nn.Conv1d(4, 6, 3, 2, 1, 2, 2), (2, 4, 9), {"conv1d": 2 * 4 * 6 * 2 * 3}),
    "conv1d same": layer(lambda: nn.Conv1d(4, 6, 4, padding="same"), (2, 4, 9), {"conv1d": 2 * 9 * 6 * 4 * 4}),
    "conv1d of one sample": layer(lambda: nn.Conv1d(4, 6, 3), (4, 9), {"conv1d": 7 * 6 * 4 * 3}),
    "conv2d": layer(
        lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (0, 1), (1, 2)), (2, 4, 9, 8), {"conv2d": 2 * 4 * 8 * 6 * 4 * 6}
    ),
    "conv2d valid": layer(lambda: nn.Conv2d(4, 6, 3, padding="valid"), (2, 4, 5, 5), {"conv2d": 2 * 9 * 6 * 4 * 9}),
    "conv2d same": layer(
        lambda: nn.Conv2d(4, 6, (2, 4), padding="same", dilation=(3, 1)), (2, 4, 5, 6), {"conv2d": 2 * 30 * 24 * 8}
    ),
    "conv2d depthwise": layer(
        lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4), (2, 4, 5, 6), {"conv2d": 2 * 30 * 8 * 9}
    ),
    "conv2d circular": layer(
        lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (2, 4, 5, 6), {"conv2d": 2 * 30 * 6 * 4 * 9}
    ),
    "conv2d reflected, same": layer(
        lambda: nn.Conv2d(4, 6, 2, padding="same", padding_mode="reflect"), (2, 4, 5, 6), {"conv2d": 2 * 30 * 6 * 16}
    ),
    "conv3d": layer(
        lambda: nn.Conv3d(2, 4, (1, 3, 2), (1, 2, 1), 1, groups=2), (2, 2, 3, 5, 4), {"conv3d": 2 * 5 * 3 * 5 * 4 * 6}
    ),
    "conv_tbc": call(
        lambda x, m: torch.conv_tbc(x, m.w, m.b, 1), (9, 2, 4), {"conv1d": 2 * 9 * 5 * 4 * 3}, False, w=(3, 4, 5),
        b=(5,),
    ),
    "convolution": call(
        lambda x, m: torch.convolution(x, m.w, None, (1,), (1,), (1,), False, (0,), 1), (2, 4, 9),
        {"conv1d": 2 * 9 * 5 * 4 * 3}, w=(5, 4, 3),
    ),
    "convolution, transposed": call(
        lambda x, m: torch.convolution(x, m.w, None, (2,), (1,), (3,), True, (1,), 2), (2, 4, 9),
        {"conv_transpose1d": 2 * 4 * 9 * 5 * 3}, w=(4, 5, 3),
    ),
    "conv_transpose1d": layer(
        lambda: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2), (2, 4, 5), {"conv_transpose1d": 2 * 4 * 5 * 3 * 3}
    ),
    "conv_transpose2d": layer(
        lambda: nn.ConvTranspose2d(4, 6, (3, 2), (3, 2), (2, 0), (1, 0), dilation=(1, 2)), (2, 4, 5, 3),
        {"conv_transpose2d": 2 * 4 * 15 * 6 * 6},
    ),
    "conv_transpose2d that crops": layer(
        lambda: nn.ConvTranspose2d(2, 2, 1, 2, 1, groups=2), (2, 2, 5, 4), {"conv_transpose2d": 2 * 2 * 20}
    ),
    "conv_transpose3d": layer(
        lambda: nn.ConvTranspose3d(2, 3, 2, 2), (2, 2, 2, 3, 2), {"conv_transpose3d": 2 * 2 * 12 * 3 * 8}
    ),
}  # fmt: skip


@pytest.fixture(params=FORMS)
def form(request):
    made = FORMS[request.param]
    module = Ignoring(made.make()).eval().requires_grad_(False)
    return made, module, torch.randn(made.shape)


def captured(module: nn.Module, x: torch.Tensor):
    """(site, contraction) of each site."""
    seen = []

    def note(site, contraction):
        seen.append((site, contraction))
        return contraction.float()

    forward(module, note, x, T)
    return seen


@pytest.mark.parametrize("mode", MODES)
def test_form__keeps_its_float_result(form, mode):
    made, module, x = form
    with MODES[mode]():
        want, got = module(x, T), forward(module, keep_float, x, T)
    assert got.shape == want.shape
    if made.same_bits:
        assert torch.equal(got, want)
    assert torch.allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_form__has_the_sites_and_multiply_accumulates_of_its_formula(form, mode):
    made, module, x = form
    with MODES[mode]():
        found = {f"{site.operation}{f'#{site.call}' * bool(site.call)}": c.macs for site, c in captured(module, x)}
    assert found == made.sites


@pytest.mark.parametrize("scheme", ["w8a8", "w4a6", "w4g2a8"])
def test_form__runs_in_integers_with_the_engines_bits(form, scheme):
    _, module, x = form
    observer = Collector()
    forward(module, observer, x, T)
    scheme = Scheme.parse(scheme)
    network = Emulated(module, scheme, observer)
    for site, operation, formats, output in network.visit(x / 2):
        spec = scheme.weight_spec(edge=False)
        same(output, by_engine(operation, formats, spec), site)
        if scheme.group_size is None:
            same(output, by_float64(operation, formats, spec), site)


class Emulated:
    """Every site through the quantized model's own emulation, without a survey: a form need not have a batch."""

    def __init__(self, module: nn.Module, scheme: Scheme, observer: Collector) -> None:
        self.network = QuantizedModel.__new__(QuantizedModel)
        self.network.scheme, self.network.ranges = scheme, observer.ranges({})
        self.module = module

    def visit(self, x: torch.Tensor):
        network, visits = self.network, []
        network._facts, network._formats, network._weights = {}, {}, {}

        def handle(site, contraction):
            facts = as_facts(site, contraction)
            network._facts[site] = facts
            network._formats[site] = network._activation_formats(facts)
            output, _ = network._emulate(site, contraction)
            visits.append((str(site), contraction, network._formats[site], output))
            return output

        forward(self.module, handle, x, T)
        assert visits
        return visits


def as_facts(site, contraction):
    from simulator.instrument.survey import SiteFacts

    return SiteFacts(site, tuple(contraction.activations()), (1, 1), 1, edge=False, operands=1, batched=True)


def same(got: torch.Tensor, want: np.ndarray, site: str) -> None:
    assert tuple(got.shape) == want.shape, site
    assert got.numpy().dtype == want.dtype == np.float32
    assert np.array_equal(
        np.ascontiguousarray(got.numpy()).view(np.int32), np.ascontiguousarray(want).view(np.int32)
    ), site


def test_product__with_a_parameter_or_buffer_is_a_layer_and_between_activations_is_none():
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.randn(4, 4))
            self.weight = nn.Parameter(torch.randn(2, 4, 4))

        def forward(self, x, timestep):
            x = x @ self.table + self.table @ x + x @ self.weight[1].T + torch.einsum("bij,kj->bik", x, self.table)
            x = x @ self.table.expand(2, 4, 4) + self.table.expand(2, 4, 4) @ x
            return x @ self.weight + x @ (self.table * 2) + x @ x

    kinds = [type(contraction) for _, contraction in captured(Both(), torch.randn(2, 4, 4))]
    assert kinds == [Linear] * 6 + [MatMul] * 3  # a weight per sample has no one matrix; a computed one is run time


def test_product__of_complex_operands_is_a_site_for_each_pair_of_parts():
    w = torch.randn(4, 5, dtype=torch.complex64)
    module = Ignoring(Calls(lambda x: torch.view_as_real((x + 2j * x).conj() @ w.conj())))
    x = torch.randn(2, 3, 4)
    names = [str(site) for site, _ in captured(module, x)]
    assert names == [f"body:matmul.{part}" for part in ("real_real", "imag_imag", "real_imag", "imag_real")]
    assert torch.allclose(forward(module, keep_float, x, T), module(x, T), rtol=0, atol=1e-5)


@pytest.mark.parametrize("function", [torch.vdot, torch.dot, torch.linalg.vecdot, torch.inner])
def test_product__of_complex_vectors_conjugates_where_torch_does(function):
    a, b = torch.randn(2, 4, dtype=torch.complex64)
    module = Ignoring(Calls(lambda x: function(a, b)))
    assert torch.allclose(forward(module, keep_float, torch.ones(2), T), function(a, b), rtol=0, atol=1e-5)


def test_quantized_model__runs_a_network_of_all_kinds_of_layers():
    body = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding="same", groups=2), nn.ReLU(), nn.ConvTranspose2d(4, 4, 2, 2), nn.Flatten(2),
        nn.Conv1d(4, 4, 3, padding=1, groups=4), Calls(lambda x: torch.einsum("bct,bdt->bcd", x, x / 16)),
    )  # fmt: skip
    x = torch.randn(3, 2, 4, 4)
    model = as_model(Ignoring(body), (2, 4, 4))
    observer = Collector()
    forward(model.module, observer, x, T)
    got = QuantizedModel(model, Scheme.parse("w8a8"), observer.ranges({}))(x, T)
    want = model.module(x, T)
    assert (got - want).square().mean() < 1e-3 * want.square().mean()


def test_emulation__counts_clipped_elements_of_a_shared_operand_as_often_as_they_are_read():
    left, right = torch.full((3, 2, 4), 9.0), torch.full((1, 5, 4), 9.0)
    how = ScaledFormat(QuantSpec(IntFormat(8, signed=False)), np.float32(0.01), 0)
    shared = emulation.matmul(MatMul(left, right, ("left", "right")), how, how)
    whole = emulation.matmul(MatMul(left, right.expand(3, 5, 4).clone(), ("left", "right")), how, how)
    assert torch.equal(shared[0], whole[0])
    assert shared[1] == whole[1] == 3 * (2 + 5) * 4
    assert MatMul(left, right, ("left", "right")).elements == 3 * (2 + 5) * 4
