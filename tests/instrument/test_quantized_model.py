"""Claim: a quantized model runs every site in exact integers: bit-equal to a numpy int64 form, and never stale."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_modules import Calls, Ignoring, as_model, keep_float

from samplers.ddim import DDIM
from samplers.errors import BadInput
from simulator.arithmetic import contract
from simulator.arithmetic.operands import quantize_image, quantize_matrices
from simulator.arithmetic.quantizer import quantize_to_range
from simulator.arithmetic.weights import prepare_weight
from simulator.calibration.collector import Collector
from simulator.calibration.ranges import Ranges
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument import emulation
from simulator.instrument.contractions import Conv, MatMul
from simulator.instrument.forward import forward
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.instrument.sites import SiteKey

pytestmark = pytest.mark.usefixtures("one_thread")

T = torch.tensor([3, 700])
SCHEMES = ("w8a8", "w4a4", "w3g5a6")


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        yield


@pytest.fixture(scope="module")
def tiny_ranges(tiny_model):
    return calibrate_ranges(tiny_model, DDIM(tiny_model.schedule, 3), samples=4)


def ranges_at(module: nn.Module, *inputs: torch.Tensor) -> Ranges:
    """Ranges of one pass per input."""
    observer = Collector()
    for x in inputs:
        forward(module, observer, x, T[: len(x)])
    return observer.ranges({})


def quantized(body: nn.Module, x: torch.Tensor, scheme: str = "w8a8") -> QuantizedModel:
    model = as_model(Ignoring(body), tuple(x.shape[1:]))
    return QuantizedModel(model, Scheme.parse(scheme), ranges_at(model.module, x))


# The int64 form: numpy only, from the documented rules.


def codes(x: np.ndarray, scale: np.float32, zero: int, qmax: int) -> np.ndarray:
    return np.clip(np.rint(x / scale) + zero, 0, qmax).astype(np.int64) - zero


def weight_codes(
    weight: np.ndarray, bits: int, group: int | None
) -> tuple[list[np.ndarray], list[np.ndarray], list[slice]]:
    qmax = 2 ** (bits - 1) - 1
    size = group or weight.shape[1]
    parts = [slice(start, start + size) for start in range(0, weight.shape[1], size)]
    scales, found = [], []
    for part in parts:
        peak = np.abs(weight[:, part]).reshape(len(weight), -1).max(axis=1).astype(np.float64)
        scale = (peak / qmax).astype(np.float32)
        shape = (-1, *[1] * (weight.ndim - 1))
        found.append(np.clip(np.rint(weight[:, part] / scale.reshape(shape)), -qmax, qmax).astype(np.int64))
        scales.append(scale)
    return found, scales, parts


def epilogue(sums: list[np.ndarray], scales: list[np.ndarray], bias: torch.Tensor | None) -> np.ndarray:
    total = None
    for exact, scale in zip(sums, scales, strict=True):
        part = exact.astype(np.float32) * scale
        total = part if total is None else total + part
    return total if bias is None else total + bias.numpy()


def int64_form(operation, formats, bits: int, group: int | None) -> np.ndarray:
    """The output of one site, channels last for a convolution."""
    if isinstance(operation, MatMul):
        left, right = (
            codes(t.numpy(), f.scale, f.zero_point, f.spec.format.qmax)
            for t, f in zip(operation.activations().values(), formats, strict=True)
        )
        return (left @ right.swapaxes(-1, -2)).astype(np.float32) * (formats[0].scale * formats[1].scale)
    (how,) = formats
    x = codes(operation.input.numpy(), how.scale, how.zero_point, how.spec.format.qmax)
    w, scales, parts = weight_codes(operation.weight.numpy(), bits, group)
    if isinstance(operation, Conv):
        down, right = operation.geometry.stride
        padded = np.pad(x, ((0, 0), (0, 0), *operation.geometry.padding))
        windows = np.lib.stride_tricks.sliding_window_view(padded, operation.weight.shape[2:], axis=(2, 3))[
            :, :, ::down, ::right
        ]
        sums = [np.einsum("bchwij,ncij->bhwn", windows[:, part], q) for q, part in zip(w, parts, strict=True)]
    else:
        sums = [x[..., part] @ q.T for q, part in zip(w, parts, strict=True)]
    return epilogue(sums, [scale * how.scale for scale in scales], operation.bias)


def record(monkeypatch) -> list[tuple]:
    """(operation, formats, output) of every emulated contraction from here on."""
    seen: list[tuple] = []
    for name in ("linear", "conv", "matmul"):
        original = getattr(emulation, name)

        def wrapped(operation, *rest, original=original):
            output, clipped = original(operation, *rest)
            seen.append((operation, rest, output, clipped))
            return output, clipped

        monkeypatch.setattr(emulation, name, wrapped)
    return seen


def memory_order(output: torch.Tensor, operation) -> np.ndarray:
    return (output.permute(0, 2, 3, 1) if isinstance(operation, Conv) else output).contiguous().numpy()


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype == np.float32 and np.array_equal(
        np.ascontiguousarray(left).view(np.int32), np.ascontiguousarray(right).view(np.int32)
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_site__equals_an_independent_int64_form_bit_for_bit(tiny_model, tiny_ranges, monkeypatch, scheme):
    network = QuantizedModel(tiny_model, Scheme.parse(scheme), tiny_ranges)
    seen = record(monkeypatch)
    network(torch.randn(2, 1, 8, 8), T)
    assert len(seen) == len(network.sites) == 9
    for facts, (operation, rest, output, _) in zip(network.sites, seen, strict=True):
        bits, group = (8, None) if facts.edge else (network.scheme.weight_bits, network.scheme.group_size)
        formats = rest if isinstance(operation, MatMul) else rest[:1]
        want = int64_form(operation, formats, bits, group)
        assert same_bits(memory_order(output, operation), want), str(facts.key)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_site__equals_the_engine_called_on_its_operands(tiny_model, tiny_ranges, monkeypatch, scheme):
    network = QuantizedModel(tiny_model, Scheme.parse(scheme), tiny_ranges)
    seen = record(monkeypatch)
    network(torch.randn(2, 1, 8, 8) * 3, T)
    for facts, (operation, _, output, clipped) in zip(network.sites, seen, strict=True):
        formats = network.formats(facts.key)
        if isinstance(operation, MatMul):
            left, right = (
                quantize_matrices(np.ascontiguousarray(t.numpy().reshape(-1, *t.shape[-2:])), formats[role], side=side)
                for (role, t), side in zip(operation.activations().items(), ("left", "right"), strict=True)
            )
            want, count = contract.batched_matmul(left, right), left.clipped + right.clipped
        else:
            spec = network.scheme.weight_spec(edge=facts.edge)
            weight = prepare_weight(quantize_to_range(operation.weight.numpy(), spec))
            if isinstance(operation, Conv):
                image = np.ascontiguousarray(operation.input.numpy().transpose(0, 2, 3, 1))
                x = quantize_image(image, formats["input"], operation.geometry)
                want = contract.conv(x, weight, operation.bias.numpy(), operation.geometry)
            else:
                x = quantize_matrices(operation.input.numpy(), formats["input"], side="left")
                want = contract.linear(x, weight, operation.bias.numpy())
            count = x.clipped
        assert same_bits(memory_order(output, operation).reshape(-1), want.reshape(-1)), str(facts.key)
        assert clipped == count


def test_conv2d__keeps_height_and_width_apart(monkeypatch):
    x = torch.randn(2, 3, 9, 8)
    for stride, padding in (((2, 1), (0, 2)), ((1, 3), (1, 0))):
        body = nn.Sequential(nn.Conv2d(3, 4, (3, 5), stride=stride, padding=padding), nn.Flatten(), nn.LazyLinear(2))
        body(x)
        network = quantized(body, x)
        seen = record(monkeypatch)
        network(x, T)
        operation, rest, output, _ = seen[0]
        assert same_bits(memory_order(output, operation), int64_form(operation, rest[:1], 8, None))


def test_formats__follow_the_scheme_and_the_calibrated_ranges(tiny_model, tiny_ranges):
    network = QuantizedModel(tiny_model, Scheme.parse("w4a5"), tiny_ranges)
    for facts in network.sites:
        for role, how in network.formats(facts.key).items():
            qmax = 255 if facts.edge else 31
            assert (how.spec.format.qmin, how.spec.format.qmax) == (0, qmax)
            if role == "probability":
                assert (how.scale, how.zero_point) == (np.float32(1 / qmax), 0)
                continue
            low, high = tiny_ranges.of(facts.key, role)
            low, high = min(low, 0.0), max(high, 0.0)
            assert how.scale == np.float32((high - low) / qmax)
            assert how.zero_point == np.rint(-low / np.float64(how.scale))


@pytest.mark.parametrize("bits", range(2, 9))
def test_probability__has_scale_one_over_the_largest_code(tiny_model, tiny_ranges, bits):
    network = QuantizedModel(tiny_model, Scheme.parse(f"w8a{bits}"), tiny_ranges)
    how = network.formats(SiteKey("", "pv"))["probability"]
    assert how.scale == np.float32(1 / (2**bits - 1))
    assert how.zero_point == 0
    assert not how.spec.format.signed


def test_quantized_model__approaches_the_float_model_with_more_bits(tiny_model):
    x = torch.randn(2, 1, 8, 8)
    ranges = ranges_at(tiny_model.module, x)
    reference = tiny_model.module(x, T)
    power = {}
    for bits in (8, 6, 4):
        error = QuantizedModel(tiny_model, Scheme(bits, bits), ranges)(x, T) - reference
        power[bits] = error.square().mean() / reference.square().mean()
    # 2 bits are 12 dB of uniform quantization noise; edges stay at 8 bits, so that a little less is seen
    assert power[8] < power[6] / 4 < power[4] / 16
    assert power[8] < 1e-3


def test_watch__sees_each_site_with_its_output_and_clip_count(tiny_model, tiny_ranges, monkeypatch):
    network = QuantizedModel(tiny_model, Scheme.parse("w4a4"), tiny_ranges)
    seen, watched = record(monkeypatch), []
    x = 50 * torch.randn(2, 1, 8, 8)
    output = network(x, T, lambda site, out, clipped: watched.append((site, out, clipped)))
    assert [site for site, _, _ in watched] == [facts.key for facts in network.sites]
    assert all(a is b and n == m for (_, a, n), (_, _, b, m) in zip(watched, seen, strict=True))
    first = network.formats(SiteKey("first", "conv2d"))["input"]
    raw = np.rint(x.numpy() / first.scale) + first.zero_point
    assert dict((str(s), n) for s, _, n in watched)["first:conv2d"] == np.count_nonzero((raw < 0) | (raw > 255)) > 0
    assert torch.equal(output, network(x, T))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_quantized_model__gives_the_same_bits_in_every_grad_mode(tiny_model, tiny_ranges, mode):
    x = torch.randn(2, 1, 8, 8)
    want = QuantizedModel(tiny_model, Scheme.parse("w4a8"), tiny_ranges)(x, T)
    with mode():
        network = QuantizedModel(tiny_model, Scheme.parse("w4a8"), tiny_ranges)
        assert torch.equal(network(x, T), want)
        assert torch.equal(network(x.clone(), T), want)


def test_quantized_model__takes_parameters_that_require_gradients():
    layer = nn.Linear(4, 3)
    x = torch.randn(2, 4)
    network = quantized(layer, x)
    want = network(x, T)
    layer.requires_grad_(True)
    got = network(x, T)
    assert torch.equal(got, want)
    assert not got.requires_grad


def repacked(network: QuantizedModel, x: torch.Tensor) -> torch.Tensor:
    """What a new quantized model of the same module says."""
    return QuantizedModel(network.model, network.scheme, network.ranges)(x, T)


CHANGES = {
    "in place": lambda layer: layer.weight.mul_(-1.5),
    "copied into": lambda layer: layer.weight.copy_(torch.randn(4, 4)),
    "replaced": lambda layer: setattr(layer, "weight", nn.Parameter(torch.randn(4, 4), requires_grad=False)),
    "loaded": lambda layer: layer.load_state_dict({"weight": torch.randn(4, 4), "bias": torch.zeros(4)}),
    "data set": lambda layer: setattr(layer.weight, "data", torch.randn(4, 4)),
    "data changed in place": lambda layer: layer.weight.data.mul_(-1.5),
}


@pytest.mark.parametrize("change", CHANGES)
def test_weight__is_packed_again_when_it_changes(change):
    layer, x = nn.Linear(4, 4), torch.randn(2, 4)
    network = quantized(layer, x)
    before = network(x, T)
    with torch.no_grad():
        CHANGES[change](layer)
    after = network(x, T)
    assert not torch.equal(after, before)
    assert torch.equal(after, repacked(network, x))


def test_weight__is_packed_once_while_it_does_not_change(tiny_model, tiny_ranges, monkeypatch):

    count = []
    monkeypatch.setattr(
        emulation, "prepare_weight", lambda q, **options: count.append(1) or prepare_weight(q, **options)
    )
    network = QuantizedModel(tiny_model, Scheme.parse("w8a8"), tiny_ranges)
    for _ in range(3):
        network(torch.randn(2, 1, 8, 8), T)
    assert len(count) == 7


class Scaled(nn.Module):
    """A layer whose weight is computed in each forward pass, exactly 2^t times a parameter."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size, size))

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight * 2.0 ** timestep[0].item())


@pytest.mark.parametrize("size", [16, 32, 512])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_weight__that_is_computed_in_the_forward_pass_is_never_stale(mode, size):
    model, x = as_model(Scaled(size), (size,)), torch.randn(2, size)
    with mode():
        network = QuantizedModel(model, Scheme.parse("w8a8"), ranges_at(model.module, x))
        first = network(x, torch.tensor([0, 0]))
        for power in range(1, 40):  # memory is soon used again, so that an address says nothing about its content
            assert torch.equal(network(x, torch.tensor([power, power])), first * 2.0**power)


def test_quantized_model__gives_the_same_bits_for_contiguous_and_channels_last_memory():
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 3, stride=2), nn.Flatten(), nn.Linear(45, 6)
    )
    x = torch.randn(2, 3, 8, 8)
    plain = quantized(body, x)
    want = plain(x, T)
    last = torch.channels_last
    assert torch.equal(plain(x.contiguous(memory_format=last), T), want)
    body.to(memory_format=last)
    assert torch.equal(plain(x, T), want)
    assert torch.equal(plain(x.contiguous(memory_format=last), T), want)


@pytest.mark.parametrize(
    "transform",
    [lambda x: x.transpose(0, 1).contiguous().transpose(0, 1), lambda x: torch.cat([x, x], -1)[..., ::2].copy_(x)],
)
def test_linear__reads_any_memory_layout(transform):
    layer, x = nn.Linear(6, 3), torch.randn(2, 5, 6)
    network = quantized(layer, x)
    other = transform(x)
    assert not other.is_contiguous()
    assert torch.equal(network(other, T), network(x, T))


def test_matmul__reads_expanded_and_transposed_operands():
    shared = torch.randn(6, 3)
    body = nn.Sequential(nn.Linear(6, 6), Calls(lambda x: x @ shared))
    x = torch.randn(2, 4, 6)
    network = quantized(body, x)
    seen: dict[str, torch.Tensor] = {}
    network(x, T, lambda site, out, clipped: seen.__setitem__(str(site), out))
    how = network.formats(SiteKey("body.1", "matmul"))
    left = codes(seen["body.0:linear"].numpy(), how["left"].scale, how["left"].zero_point, 255)
    right = codes(shared.numpy(), how["right"].scale, how["right"].zero_point, 255)
    want = (left @ right).astype(np.float32) * (how["left"].scale * how["right"].scale)
    assert same_bits(seen["body.1:matmul"].numpy(), want)


def test_emulation__fills_tensors_that_torch_owns_without_a_copy(monkeypatch):
    given: list[np.ndarray] = []

    def spy(original):
        def watched(*args, **options):
            given.append(original(*args, **options))
            return given[-1]

        return watched

    for name in ("conv", "linear"):
        monkeypatch.setattr(contract, name, spy(getattr(contract, name)))
    for body, x in ((nn.Linear(6, 3), torch.randn(2, 6)), (nn.Conv2d(3, 4, 3), torch.randn(2, 3, 5, 5))):
        network, outputs = quantized(body, x), []
        network(x, T, lambda site, out, clipped, outputs=outputs: outputs.append(out))
        assert given[-1].ctypes.data == outputs[-1].data_ptr()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("casts_its_input", [False, True])
def test_quantized_model__refuses_a_model_that_is_not_float32(dtype, casts_its_input):
    layer = nn.Linear(4, 3).to(dtype)
    body = nn.Sequential(Calls(lambda x: x.to(dtype)), layer) if casts_its_input else layer
    with pytest.raises(BadInput, match="float32"):
        quantized(body, torch.randn(2, 4))(torch.randn(2, 4), T)


def test_quantized_model__refuses_ranges_of_another_model(tiny_model):
    with pytest.raises(BadInput, match="calibrated range"):
        QuantizedModel(tiny_model, Scheme.parse("w8a8"), Ranges({}, {}))


def test_quantized_model__refuses_a_site_that_the_first_pass_did_not_have():
    layer = nn.Linear(4, 4)

    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x) if x.abs().sum() == 0 else self.layer(self.layer(x))

    with pytest.raises(BadInput, match=r"same sites.*layer:linear#1"):
        quantized(Sometimes(), torch.randn(2, 4))(torch.randn(2, 4), T)


def test_observer__keeps_the_extremes_of_every_run_time_operand(tiny_model):
    captured: dict = {}

    def note(site, contraction):
        for role, operand in contraction.activations().items():
            captured.setdefault((site, role), []).append(operand.clone())
        return contraction.float()

    inputs = [torch.randn(2, 1, 8, 8) * size for size in (1, 3)]
    for x in inputs:
        forward(tiny_model.module, note, x, T)
    ranges = ranges_at(tiny_model.module, *inputs)
    assert set(ranges.bounds) == {(*operand, "all") for operand in captured}
    for operand, values in captured.items():
        both = torch.cat([v.reshape(-1) for v in values])
        assert ranges.of(*operand) == (both.min().item(), both.max().item())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_observer__refuses_operands_that_are_not_finite(value):
    x = torch.randn(2, 4)
    x[1, 2] = value
    with pytest.raises(BadInput, match="finite"):
        ranges_at(Ignoring(nn.Linear(4, 4)), x)


def test_calibrate_ranges__covers_the_whole_trajectory_and_counts_its_steps(tiny_model):
    ticks: list[tuple[int, int]] = []
    sampler = DDIM(tiny_model.schedule, 4)
    got = calibrate_ranges(
        tiny_model, sampler, samples=5, seed=3, batch_size=2, progress=lambda done, total: ticks.append((done, total))
    )
    assert ticks == [(i, 12) for i in range(1, 13)]
    assert got.source["purpose"] == "calibrate"
    assert got.source["seed"] == 3
    assert got.source["sampler"] == sampler.config()
    first = calibrate_ranges(tiny_model, sampler, samples=2, seed=3, batch_size=2)
    for operand, (low, high) in first.bounds.items():
        assert got.bounds[operand][0] <= low
        assert got.bounds[operand][1] >= high
    with torch.no_grad():
        x = forward(tiny_model.module, keep_float, torch.zeros(1, 1, 8, 8), T[:1])
    assert x.shape == (1, 1, 8, 8)


@pytest.mark.parametrize("changes", [{"samples": 0}, {"batch_size": 0}])
def test_calibrate_ranges__refuses_sizes_below_one(tiny_model, changes):
    with pytest.raises(BadInput):
        calibrate_ranges(tiny_model, DDIM(tiny_model.schedule, 2), **{"samples": 2, "batch_size": 2, **changes})


def test_calibration__draws_from_another_stream_than_evaluation(tiny_model):
    from samplers.noise import NoiseStream
    from simulator.calibration import trajectory

    shape = tiny_model.sample_shape
    streams = [NoiseStream(0, purpose).initial(range(4), shape) for purpose in (trajectory.PURPOSE, "evaluate")]
    assert not torch.isin(streams[0], streams[1]).any()


def test_model__is_a_frozen_value(tiny_model):
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny_model.name = "other"
