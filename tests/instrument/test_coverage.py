"""Claim: the coverage report lists every contraction with its multiply-accumulates, and invents nothing unseen."""

from __future__ import annotations

import torch
from torch import nn
from torch_modules import Calls, Ignoring

from simulator.calibration.collector import Collector
from simulator.instrument.coverage import Coverage, Done, Entry, cover
from simulator.instrument.forward import forward
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme

T = torch.zeros(2, dtype=torch.long)


def test_cover__gives_the_hand_formulas_of_a_network():
    body = nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2),  # 9 -> (9 + 4 - 4 - 1) // 2 + 1 = 5
        nn.ConvTranspose2d(6, 2, 4, stride=3, padding=1, groups=2),  # 5 -> (5 - 1) 3 - 2 + 3 + 1 = 14
        nn.Flatten(2),
        nn.Linear(14 * 14, 7),
        Calls(lambda x: torch.einsum("bij,bkj->bik", x, x)),
    )
    entries = cover(Ignoring(body), torch.randn(3, 4, 9, 9), T).entries
    assert [(entry.site, entry.operands, entry.macs) for entry in entries] == [
        ("body.0:conv2d", ((3, 4, 9, 9), (6, 2, 3, 3)), 3 * 5 * 5 * 6 * 2 * 3 * 3),
        ("body.1:conv_transpose2d", ((3, 6, 5, 5), (6, 1, 4, 4)), 3 * 6 * 5 * 5 * 1 * 4 * 4),
        ("body.3:linear", ((3, 2, 196), (7, 196)), 3 * 2 * 196 * 7),
        ("body.4:einsum", ((3, 2, 7), (3, 2, 7)), 3 * 2 * 2 * 7),
    ]


def test_report__is_a_table_with_totals():
    found = Coverage(
        (
            Entry("a:linear", Done.HANDLED, ((2, 3), (4, 3)), 24),
            Entry("b:linear", Done.FLOAT, ((2, 3), (1, 3)), 6),
            Entry("c:thing", Done.UNKNOWN),
        )
    )
    assert found.report().splitlines() == [
        "site      done     operands   MACs",
        "a:linear  handled  2x3 . 4x3    24",
        "b:linear  float    2x3 . 1x3     6",
        "c:thing   unknown                ?",
        "1 of 3 handled, 24 MACs; in float: 6 MACs; unknown: c:thing",
    ]
    assert (found.macs, found.float_macs, found.unknown, found.complete) == (24, 6, ("c:thing",), False)


def test_cover__does_not_invent_the_cost_of_what_it_cannot_count():
    body = nn.Sequential(nn.Linear(4, 4), nn.GRU(4, 4), Calls(lambda x: x[0]))
    coverage = cover(Ignoring(body), torch.randn(2, 3, 4), T, allow_float=("body.1",))
    assert coverage.float_macs is None
    assert coverage.macs == 2 * 3 * 16
    assert not coverage.complete
    assert coverage.report().endswith("in float: ? MACs; unknown: none")


def test_cover__asks_its_handler():
    def zero(site, contraction):
        return 0 * contraction.float()

    outputs = []
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda module, args, output: outputs.append(output))
    cover(Ignoring(layer), torch.randn(2, 4), T, handler=zero)
    assert not outputs[0].any()


def test_quantized_model__reports_the_bits_of_every_site(tiny_model):
    observer = Collector()
    x = torch.randn(2, 1, 8, 8)
    forward(tiny_model.module, observer, x, T)
    network = QuantizedModel(tiny_model, Scheme.parse("w4a6"), observer.ranges({}), allow_float=("embed",))
    coverage = network.coverage(x, T)
    assert [(entry.site, entry.how or entry.done.value) for entry in coverage.entries] == [
        ("embed.0:linear", "float"), ("embed.2:linear", "float"), ("first:conv2d", "integer a8 w8"),
        ("down:conv2d", "integer a6 w4"), ("qkv:linear", "integer a6 w4"), ("qk", "integer a6 a6"),
        ("pv", "integer a6 a6"), ("proj:linear", "integer a6 w4"), ("last:conv2d", "integer a8 w8"),
    ]  # fmt: skip
    assert coverage.float_macs == 2 * (8 * 12 + 12 * 12)
    assert coverage.macs == sum(2 * facts.macs for facts in network.sites)
