"""Claim: an attention computed in parts has the bits of the whole, in integers and in float, at the same two sites."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch_modules import Calls, Ignoring, as_model, keep_float

from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.operands import ScaledFormat
from simulator.arithmetic.quantizer import QuantSpec
from simulator.calibration.collector import Collector
from simulator.instrument import attention_parts, emulated_attention, emulation
from simulator.instrument.attention_parts import Attention, attention_in_float
from simulator.instrument.coverage import cover
from simulator.instrument.forward import forward
from simulator.instrument.interception import InFloat
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme

pytestmark = pytest.mark.usefixtures("one_thread")

T = torch.zeros(2, dtype=torch.long)
SIZES = (1, 7, 15, 45, 80, 200)
"""Scores of one part: a row has 7, a matrix 35, two samples of four heads 280."""


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(11)
        yield


def some(*shape: int) -> torch.Tensor:
    return torch.rand(shape) > 0.5


def blind() -> torch.Tensor:
    """A mask whose second row sees no key."""
    mask = some(5, 7)
    mask[1] = False
    return mask


MASKS = {
    "none": lambda: None,
    "bool": blind,
    "bool per head": lambda: some(2, 4, 5, 7),
    "bool per sample": lambda: some(2, 1, 5, 7),
    "bool of keys": lambda: some(2, 1, 1, 7),
    "bool of rows": lambda: some(5, 1),
    "bool of key axis": lambda: some(7),
    "float": lambda: torch.randn(5, 7),
    "float, a blind row": lambda: torch.zeros(5, 7).masked_fill(~blind(), -math.inf),
    "float per head": lambda: torch.randn(4, 5, 7),
    "causal": lambda: torch.ones(5, 7, dtype=torch.bool).tril(),
}
SHAPES = {
    "plain": ((2, 4), (2, 4), (2, 4)),
    "shared by heads": ((2, 4), (2, 1), (2, 1)),
    "shared by samples": ((2, 4), (4,), (1, 4)),
    "one for all": ((2, 4), (), (1, 1)),
    "one query": ((1, 4), (2, 4), (2, 1)),
    "values apart": ((2, 4), (2, 1), (2, 4)),
}


def an_attention(mask: str = "none", shape: str = "plain", features: int = 3) -> Attention:
    query, key, value = SHAPES[shape]
    tensors = torch.randn(*query, 5, 6), torch.randn(*key, 7, 6), torch.randn(*value, 7, features)
    return Attention(*tensors, 0.4, MASKS[mask]())


def formats() -> tuple[dict[str, ScaledFormat], dict[str, ScaledFormat]]:
    """Narrow ranges, so that operands are clipped."""
    spec = QuantSpec(IntFormat(8, signed=False))
    query, key, value = (
        ScaledFormat(spec, np.float32(scale), zero) for scale, zero in ((0.011, 90), (0.013, 140), (0.012, 7))
    )
    return {"query": query, "key": key}, {"probability": ScaledFormat(spec, np.float32(1 / 300), 0), "value": value}


def whole_in_integers(operation: Attention) -> tuple:
    """(output, clipped, clipped, scores) of two whole products."""
    first, second = formats()
    scores, clipped = emulation.matmul(operation.scores, first["query"], first["key"])
    mixture = operation.mixture(operation.weights(scores))
    out, also = emulation.matmul(mixture, second["probability"], second["value"])
    return out, clipped, also, scores


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.view(torch.int32), b.contiguous().view(torch.int32))


@pytest.mark.parametrize("rows_apart", [True, False])
@pytest.mark.parametrize("size", [*SIZES, 279])
@pytest.mark.parametrize("shape", SHAPES)
def test_parts__cover_every_row_once_and_stay_small(shape, size, rows_apart, monkeypatch):
    monkeypatch.setattr(attention_parts, "PART", size)
    operation = an_attention(shape=shape)
    seen = torch.zeros(2, 4, 5, dtype=torch.int)
    parts = list(operation.parts(rows_apart=rows_apart))
    for part in parts:
        seen[part] += 1
        assert seen[part].numel() * 7 <= max(size, 7 if rows_apart else 35)
        assert seen[part].is_contiguous()
    assert (seen == 1).all()
    sizes = [seen[part].numel() for part in parts]
    assert max(sizes) == sizes[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_integers_in_parts__are_two_whole_products(shape, mask, size, monkeypatch):
    monkeypatch.setattr(attention_parts, "PART", size)
    operation = an_attention(mask, shape)
    want, *counts, scores = whole_in_integers(operation)
    assert min(counts) > 0
    got = emulated_attention.attention(operation, *formats())
    assert operation.divisible
    assert same(got[0], want)
    assert list(got[1:]) == counts
    kept = operation.empty_scores()
    watched = emulated_attention.attention(operation, *formats(), kept)
    assert same(kept, scores)
    assert same(watched[0], want)
    assert list(watched[1:]) == counts


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_float_in_parts__is_the_whole(shape, mask, size, monkeypatch):
    operation = an_attention(mask, shape)
    want = operation.mixture(operation.weights(operation.scores.float())).float()
    monkeypatch.setattr(attention_parts, "PART", size)
    assert operation.divisible
    assert same(attention_in_float(operation), want)


@pytest.mark.parametrize("threads", [1, 2])
def test_parts__of_real_sizes_have_the_bits_of_the_whole(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for heads, rows, depth in ((20, 256, 8), (3, 520, 64), (9, 256, 256)):
            tensors = (torch.randn(rows, heads * depth).view(rows, heads, depth).transpose(0, 1) for _ in range(3))
            operation = Attention(*tensors, depth**-0.5)
            assert operation.divisible
            want = operation.mixture(operation.weights(operation.scores.float())).float()
            assert same(attention_in_float(operation), want)
            assert same(emulated_attention.attention(operation, *formats())[0], whole_in_integers(operation)[0])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"enable_gqa": True}])
def test_quantized_model__shows_the_same_sites_outputs_and_clips_in_parts(options, monkeypatch):
    heads = 2 if options.get("enable_gqa") else 4

    def attend(x):
        return F.scaled_dot_product_attention(x, x[:, :heads].flip(-1), x[:, :heads] * 0.5, **options)

    body = torch.nn.Sequential(Calls(attend), torch.nn.Linear(6, 3))
    model, x = as_model(Ignoring(body), (4, 9, 6)), torch.randn(2, 4, 9, 6)
    observer = Collector()
    forward(model.module, observer, x * 0.7, T)
    quantized = QuantizedModel(model, Scheme.parse("w8a8"), observer.ranges({}))
    runs = []
    for size in (1 << 20, 60, 20):
        monkeypatch.setattr(attention_parts, "PART", size)
        seen: list[tuple] = []
        output = quantized(
            x, T, lambda site, found, seen=seen: seen.append((str(site), found.output.clone(), found.clipped))
        )
        runs.append((seen, output, quantized(x, T)))
    for seen, output, unwatched in runs:
        assert [name for name, _, _ in seen] == ["body.0:qk", "body.0:pv", "body.1:linear"]
        assert same(output, runs[0][1])
        assert same(unwatched, output)
        for (_, a, n), (_, b, m) in zip(seen, runs[0][0], strict=True):
            assert same(a, b.contiguous())
            assert n == m
    assert runs[0][0][0][2] > 0


@pytest.mark.parametrize("what", ["mask", "value"])
def test_operands__that_widen_the_scores_keep_them_whole(what, monkeypatch):
    q, k, v, mask = torch.randn(1, 4, 5, 6), torch.randn(1, 4, 7, 6), torch.randn(1, 4, 7, 3), torch.randn(5, 7)
    v, mask = (v, torch.randn(2, 1, 5, 7)) if what == "mask" else (torch.randn(2, 4, 7, 3), mask)
    module = Ignoring(Calls(lambda x: F.scaled_dot_product_attention(x, k, v, mask)))
    want = forward(module, keep_float, q, T)
    monkeypatch.setattr(attention_parts, "PART", 10)
    assert same(forward(module, InFloat(), q, T), want)
    assert len(want) == 2


@pytest.mark.parametrize("scheme", ["w8a8-dyn", "w8a8o8", "w8a8-acc20", "w8a8-f16", "w9a9", "mxint8"])
def test_attention__of_another_machine_stays_whole(scheme, monkeypatch):
    monkeypatch.setattr(attention_parts, "PART", 20)
    monkeypatch.setattr(emulated_attention, "in_parts", None)
    body = torch.nn.Sequential(Calls(lambda x: F.scaled_dot_product_attention(x, x, x)), torch.nn.Linear(6, 3))
    model, x = as_model(Ignoring(body), (4, 9, 6)), torch.randn(2, 4, 9, 6)
    observer = Collector(outputs=True)
    forward(model.module, observer, x, T)
    network = QuantizedModel(model, Scheme.parse(scheme), observer.ranges({}))
    seen: list = []
    network(x, T, lambda site, found: seen.append(str(site)))
    assert seen == ["body.0:qk", "body.0:pv", "body.1:linear"]


def test_scores__are_never_whole_unless_watched(monkeypatch):
    monkeypatch.setattr(attention_parts, "PART", 1 << 10)
    made: list[int] = []
    original = emulated_attention.in_parts

    def noting(*args, scores=None, **kwargs):
        made.append(0 if scores is None else scores.numel())
        return original(*args, scores=scores, **kwargs)

    monkeypatch.setattr(emulated_attention, "in_parts", noting)
    module = Calls(lambda x: F.scaled_dot_product_attention(x, x, x))
    model, x = (
        as_model(Ignoring(torch.nn.Sequential(module, torch.nn.Linear(6, 3))), (4, 40, 6)),
        torch.randn(2, 4, 40, 6),
    )
    observer = Collector()
    forward(model.module, observer, x, T)
    quantized = QuantizedModel(model, Scheme.parse("w8a8"), observer.ranges({}))
    quantized(x, T)
    quantized(x, T, lambda site, found: None)
    assert made == [0, 2 * 4 * 40 * 40]


def test_handlers__that_take_products_get_whole_ones(monkeypatch):
    monkeypatch.setattr(attention_parts, "PART", 10)
    q, k = torch.randn(2, 4, 5, 6), torch.randn(2, 2, 7, 6)
    module = Ignoring(Calls(lambda x: F.scaled_dot_product_attention(x, k, k, enable_gqa=True)))
    macs = [(entry.site, entry.macs) for entry in cover(module, q, T).entries]
    assert macs == [("body:qk", 2 * 4 * 5 * 7 * 6), ("body:pv", 2 * 4 * 5 * 7 * 6)]
    assert same(forward(module, keep_float, q, T), forward(module, InFloat(), q, T))


def test_allowed_sites__stay_in_float_whatever_the_size(monkeypatch):
    monkeypatch.setattr(attention_parts, "PART", 10)
    q = torch.randn(2, 4, 5, 6)
    module, seen = Ignoring(Calls(lambda x: F.scaled_dot_product_attention(x, x, x))), []

    class Refusing(InFloat):
        def attention(self, scores, mixture, operation):
            raise AssertionError("asked for an attention of which a product stays in float")

    forward(module, Refusing(), q, T, allow_float=("body:qk",), allowed=lambda site, _: seen.append(str(site)))
    assert seen == ["body:qk"]


def test_operands__are_refused_in_parts_as_they_are_whole(monkeypatch):
    q = torch.randn(2, 4, 5, 6)
    for size in (10, 1 << 20):
        monkeypatch.setattr(attention_parts, "PART", size)
        double = Ignoring(Calls(lambda x: F.scaled_dot_product_attention(x, x, x.double())))
        mask = Ignoring(Calls(lambda x: F.scaled_dot_product_attention(x, x, x, torch.zeros(5, 5).double())))
        for module in (double, mask):
            with pytest.raises(BadInput, match="float32"):
                forward(module, InFloat(), q, T)
