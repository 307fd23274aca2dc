"""Claim: a TOML table states a whole machine: every named target survives the round trip, and what is missing, unknown
or wrong is refused with its place and the nearest name."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import numpy as np
import pytest

from samplers.errors import BadInput
from simulator import targets
from simulator.arithmetic.accumulator import Accumulator, Bias, KOrder, Overflow, ZeroPoint
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerBlock, PerGroup
from simulator.arithmetic.quantizer import Quantized, QuantSpec
from simulator.arithmetic.requantize import SingleRoundingRequantizer
from simulator.arithmetic.scale_formats import FixedPointScale, PowerOfTwoScale
from simulator.targets import TARGETS, Epilogue

CHIP = """
name = "chip"
peer = "its data sheet, revision 3"
parameters = "given"
outputs = ["int8", "int16"]
intermediate = "float32"
conv = "none"
depthwise = "none"
matmul = "none"
groups = "none"
unspecified = ["what happens at power-on"]

[[activations]]
format = "uint4"
granularity = { kind = "per-tensor" }
symmetric = false
rounding = "half-even"
rule = "divide"
scale_format = { kind = "float32" }

[[weights]]
format = "int4-narrow"
granularity = { kind = "per-axis", axes = [0] }
symmetric = true
rounding = "half-away"
rule = "divide"
scale_format = { kind = "power-of-two", rounding = "ceil" }

[linear]
requantizer = "tflite-single-rounding"
bias = "int32"
weight_scale = "stored"
epilogue = "scale-then-bias"

[linear.accumulator]
kind = "register"
bits = 8
overflow = "saturate"
tree = 2
k_order = "channel-row-column"
zero_point = "outside"
bias = "last"

[proof]
evidence = "specified"
where = []
scope = "the data sheet's section on arithmetic"
"""


def table():
    return tomllib.loads(CHIP)


@pytest.mark.parametrize("target", TARGETS.values(), ids=str)
def test_target__survives_the_round_trip_through_toml(target, tmp_path):
    path = tmp_path / "target.toml"
    path.write_text(targets.format_target(target), encoding="utf-8")
    assert targets.load_target(path) == target


def test_target__of_a_table_has_its_fields():
    made = targets.parse_target(table())
    assert made.linear.accumulator == Accumulator(
        8, Overflow.SATURATE, 2, KOrder.CHANNEL_ROW_COLUMN, ZeroPoint.OUTSIDE, Bias.LAST
    )
    assert made.linear.requantizer is SingleRoundingRequantizer
    assert made.weights[0].format == IntFormat(4, narrow=True)
    assert made.weights[0].scale_format == PowerOfTwoScale()
    assert targets.parse_target(tomllib.loads(targets.format_target(made))) == made


def test_target__of_a_table_runs():
    made = targets.parse_target(table())
    x = Quantized(np.array([[15, 15, 15, 1]], np.uint8), np.ones((1, 1), "f4"), np.full((1, 1), 1, "i4"),
                  made.activations[0])  # fmt: skip
    w = Quantized(np.array([[7, 7, -7, 7]], np.int8), np.ones((1, 1), "f4"), np.zeros((1, 1), "i4"), made.weights[0])
    # pairs 210 and -98 enter raw: 127, then 29; bias + 3 last; then -1 * 14 outside
    got = targets.linear(made, x, w, np.array([3], np.int32), targets.OutputSpec(2.0, 0, IntFormat(16)))
    assert got.values.tolist() == [[9]]
    assert got.values.dtype == np.int16
    assert got.overflowed == 1


def test_target__round_trip_keeps_a_fixed_point_scale():
    base = TARGETS["cutlass-int8"]
    made = replace(base, weights=(QuantSpec(IntFormat(8), scale_format=FixedPointScale(8)),))
    assert targets.parse_target(tomllib.loads(targets.format_target(made))) == made


GROUPED = TARGETS["onnx-matmulnbits"]
WHOLE = TARGETS["cutlass-int8"]


@pytest.mark.parametrize(
    "change",
    [
        lambda: replace(WHOLE, weights=(QuantSpec(IntFormat(8), PerBlock((None, 4))),)),
        lambda: replace(WHOLE, weights=(*WHOLE.weights, QuantSpec(IntFormat(8), PerGroup(1, 4, (0,))))),
        lambda: replace(WHOLE, groups=GROUPED.groups),
        lambda: replace(WHOLE, linear=GROUPED.linear),
        lambda: replace(WHOLE, activations=GROUPED.activations),
        lambda: replace(GROUPED, groups=None),
        lambda: replace(GROUPED, linear=replace(WHOLE.linear, requantizer=None, bias=GROUPED.linear.bias)),
        lambda: replace(GROUPED, conv=replace(WHOLE.conv, requantizer=None)),
        lambda: replace(GROUPED, linear=replace(WHOLE.linear, epilogue=Epilogue.GROUPS), outputs=(IntFormat(8),)),
        lambda: replace(GROUPED, weights=(*GROUPED.weights, QuantSpec(IntFormat(4, signed=False)))),
    ],
)
def test_target__has_groups_along_k_everywhere_or_nowhere(change):
    with pytest.raises(BadInput, match=r"group|scales are PerTensor"):
        change()


def places(node, path=()):
    """Every key of every table."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*path, key)
            yield from places(value, (*path, key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from places(value, (*path, i))


def at(node, path):
    for key in path:
        node = node[key]
    return node


@pytest.mark.parametrize("path", [p for p in places(table()) if isinstance(p[-1], str)], ids=str)
def test_target__without_any_one_field_is_refused_by_its_name(path):
    made = table()
    del at(made, path[:-1])[path[-1]]
    with pytest.raises(BadInput, match=path[-1]):
        targets.parse_target(made)


WRONG = {
    ("linear", "accumulator", "bits"): ("20", "linear.accumulator.bits must be of type int"),
    ("linear", "accumulator", "tree"): (True, "must be of type int"),
    ("linear", "accumulator", "overflow"): ("saturated", "did you mean 'saturate'"),
    ("linear", "accumulator", "kind"): ("registers", "did you mean 'register'"),
    ("linear", "requantizer"): ("tflite-cov", "did you mean 'tflite-conv'"),
    ("linear", "bias"): ("float32", "takes BiasKind.INT32"),
    ("linear", "epilogue"): ("half", "float accumulator"),
    ("weights", 0, "format"): ("int17", "known name"),
    ("weights", 0, "granularity"): ("per-tensor", "a table with a kind"),
    ("activations",): ("uint8", "must be a list"),
    ("outputs",): ([], "outputs are stated exactly where"),
    ("conv",): ("linear", "must be a table"),
    ("intermediate",): ("float16", "integer machines hand on float32"),
    ("proof", "evidence"): ("verified", "names its scope, and test files"),
    ("groups",): ({"format": "float32", "order": "ascending"}, "group register"),
    ("name",): ("", "a name and a peer"),
}


@pytest.mark.parametrize("path", WRONG, ids=str)
def test_target__with_a_wrong_value_is_refused(path):
    made = table()
    at(made, path[:-1])[path[-1]], said = WRONG[path]
    with pytest.raises(BadInput, match=said):
        targets.parse_target(made)


@pytest.mark.parametrize(
    ("path", "near"), [((), "conv"), (("linear",), "epilogue"), (("linear", "accumulator"), "tree")], ids=str
)
def test_target__with_an_unknown_key_gets_the_nearest(path, near):
    made = table()
    at(made, path)[near + "x"] = "none"
    with pytest.raises(BadInput, match=f"did you mean '{near}'"):
        targets.parse_target(made)


def test_load_target__refuses_a_file_that_is_none(tmp_path):
    with pytest.raises(BadInput, match="readable TOML"):
        targets.load_target(tmp_path / "absent.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("name = ", encoding="utf-8")
    with pytest.raises(BadInput, match="readable TOML"):
        targets.load_target(bad)
