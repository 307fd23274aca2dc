"""Claim: short strings and TOML mean exactly the documented settings, have one spelling, and all else is refused."""

from __future__ import annotations

import itertools

import pytest

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Overflow
from simulator.arithmetic.float_formats import BFLOAT16, FLOAT16, FLOAT32
from simulator.arithmetic.pair_accumulator import PairAccumulator, Pairing
from simulator.arithmetic.requantize import CutlassRequantizer, GemmlowpRequantizer
from simulator.arithmetic.rounding import Rounding
from simulator.instrument.scheme import ActivationRange, Rule, Scheme, Settings
from simulator.instrument.scheme.toml import parse_scheme
from simulator.targets import TARGETS, format_target

EDGES = ("@first", "@last")
ADDITIONS = (
    ("", "o8", "o16"), ("", "-attn4"), ("", "-dyn", "-dynrow"), ("", "-acc20", "-wrap24"), ("", "-f16", "-bf16"),
    ("", "-half-away", "-floor"),
)  # fmt: skip


def test_parse__reads_the_documented_forms():
    edges = Rule(EDGES, Settings(weight_bits=8, group_size=0, activation_bits=8))
    assert Scheme.parse("w4a6") == Scheme(Settings(weight_bits=4, activation_bits=6), (edges,))
    whole = Scheme.parse(" W4G64A8O16-attn4-DYN-acc20-f16-half-away ")
    assert whole == Scheme(
        Settings(
            weight_bits=4, group_size=64, activation_bits=8, output_bits=16, activation_range=ActivationRange.TENSOR,
            accumulator=Accumulator(20, Overflow.SATURATE), rounding=Rounding.HALF_AWAY,
        ),
        (Rule(("@attention",), Settings(activation_bits=4)), edges),
        intermediate=FLOAT16,
    )  # fmt: skip
    assert str(whole) == "w4g64a8o16-attn4-dyn-acc20-f16-half-away"
    assert Scheme.parse("w8a8@onnxruntime").target is TARGETS["onnxruntime"]
    assert Scheme.parse("mxfp4").settings.block == "mxfp4"
    assert Scheme.parse("mxfp4").rules[-1].settings.block == "integers"
    wide = Scheme.parse("w12a16").rules[-1].settings
    assert (wide.weight_bits, wide.activation_bits) == (12, 16)


@pytest.mark.parametrize("base", ["w8a8", "w2a16", "w4g1a8", "w4g128a3", "mxint8", "nvfp4"])
def test_str__is_the_one_spelling(base):
    names = ["".join((base, *parts)) for parts in itertools.product(*ADDITIONS)]
    schemes = [Scheme.parse(name) for name in names]
    assert [str(scheme) for scheme in schemes] == names
    assert all(Scheme(s.settings, s.rules, s.target, s.intermediate).name == str(s) for s in schemes)
    assert len({repr(scheme.config()) for scheme in schemes}) == len(names)
    assert all(scheme.is_short for scheme in schemes)


@pytest.mark.parametrize(
    "text",
    ["", "w3q8", "w1a8", "w17a9", "w8a17", "w8a1", "w4g0a8", "w4a8g32", "a8w4", "w-4a8", "w4.0a8", "w4a8 w4a8",
     "w4 a8", "w4ga8", "wa", "w8", "w4a8\nw4a8", "w٨a8", "w8a8o1", "w8a8o17", "w8a8-stochastic", "w8a8-half-even",
     "w8a8-acc1", "w8a8-acc65", "w8a8-acc20-dyn", "w8a8@nowhere", "mxfp8", "mxfp4g32", "w8a8-attn1", "nowhere.toml",
     "w8a8-acc20@onnxruntime", "mxfp4@onnxruntime", "w8a8-floor@cuda-int8"],
)  # fmt: skip
def test_parse__refuses_anything_else(text):
    with pytest.raises(BadInput) as caught:
        Scheme.parse(text)
    assert caught.value.fix


@pytest.mark.parametrize(
    "arguments",
    [{"weight_bits": 1}, {"weight_bits": 17}, {"activation_bits": 8.0}, {"group_size": -1}, {"group_size": 2.5},
     {"output_bits": 1}, {"query_bits": 0}, {"block": "mxfp8"}, {"rounding": Rounding.STOCHASTIC},
     {"accumulator": 20}, {"keep_float": 1}, {"requantizer": CutlassRequantizer}, {"activation_range": "row"}],
)  # fmt: skip
def test_settings__refuse_what_no_site_can_have(arguments):
    with pytest.raises(BadInput):
        Settings(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [("*", Settings(weight_bits=4)), ((), Settings(weight_bits=4)), (("",), Settings(weight_bits=4)),
     (("*",), Settings()), (("*",), Settings(weight_bits=4), (3, 3)), (("*",), Settings(weight_bits=4), (-1, 3)),
     (("*",), Settings(weight_bits=4), (0, 1.5)), (("*",), Settings(weight_bits=4), (1,))],
)  # fmt: skip
def test_rule__refuses_what_cannot_apply(arguments):
    with pytest.raises(BadInput):
        Rule(*arguments)


def test_settings__later_ones_win_field_by_field():
    first = Settings(weight_bits=4, activation_bits=8, keep_float=True)
    assert first | Settings(activation_bits=6, keep_float=False) == Settings(
        weight_bits=4, activation_bits=6, keep_float=False
    )


TABLE = {
    "base": "w4g64a8",
    "name": "narrow",
    "intermediate": "bfloat16",
    "all": {
        "output_bits": 16,
        "requantizer": "tflite-conv",
        "accumulator": {
            "kind": "register", "bits": 20, "overflow": "saturate", "tree": 4, "k_order": "channel-row-column",
            "zero_point": "outside", "bias": "last",
        },
    },
    "site": [{"sites": ["@qk", "up.*"], "activation_bits": 4, "steps": [0, 10]}, {"sites": "last", "keep_float": True}],
}  # fmt: skip


def test_toml__sets_every_kind_of_field():
    scheme = parse_scheme(TABLE)
    assert str(scheme) == "narrow"
    assert scheme.float_format == BFLOAT16
    assert scheme.settings.accumulator.tree == 4
    assert scheme.settings.requantizer is GemmlowpRequantizer
    assert scheme.rules[1:] == (
        Rule(("@qk", "up.*"), Settings(activation_bits=4), (0, 10)), Rule(("last",), Settings(keep_float=True)),
    )  # fmt: skip
    assert scheme.has_steps
    assert not scheme.is_short
    unnamed = parse_scheme({k: v for k, v in TABLE.items() if k != "name"})
    assert unnamed == scheme
    assert str(unnamed).startswith("custom-")
    assert str(unnamed) != str(parse_scheme({k: v for k, v in TABLE.items() if k not in ("name", "site")}))


def test_toml__reads_a_file_and_a_target_beside_it(tmp_path):
    (tmp_path / "machine.toml").write_text(format_target(TARGETS["cuda-int8"]), "utf-8")
    path = tmp_path / "scheme.toml"
    path.write_text('base = "w8a8"\ntarget = "machine.toml"\n', "utf-8")
    scheme = Scheme.parse(str(path))
    assert scheme.target == TARGETS["cuda-int8"]
    assert scheme.float_format == FLOAT32


@pytest.mark.parametrize(
    "change",
    [{"bse": "w8a8"}, {"base": 8}, {"base": "w1a1"}, {"all": {"weight_bit": 4}}, {"all": {"weight_bits": "4"}},
     {"all": []}, {"site": {}}, {"site": [{"activation_bits": 4}]}, {"site": [{"sites": ["*"]}]}, {"site": [3]},
     {"site": [{"sites": ["*"], "activation_bits": 4, "steps": 3}]}, {"target": "nowhere"}, {"target": "nowhere.toml"},
     {"intermediate": "float8"}, {"name": "a/b"}, {"all": {"accumulator": {"kind": "register", "bits": 20}}},
     {"target": "onnxruntime"}],
)  # fmt: skip
def test_toml__refuses_what_it_does_not_know(change):
    with pytest.raises(BadInput) as caught:
        parse_scheme({**TABLE, **change})
    assert caught.value.fix


def test_config__tells_what_differs():
    pairs = PairAccumulator(Pairing.CHANNELS)
    schemes = [
        Scheme(), Scheme(Settings(accumulator=pairs)), Scheme(Settings(weight_bits=8)), Scheme(intermediate=FLOAT16),
        Scheme(rules=(Rule(("*",), Settings(weight_bits=4)),)), Scheme(target=TARGETS["onnxruntime"]),
        Scheme(rules=(Rule(("*",), Settings(weight_bits=4), (0, 2)),)),
    ]  # fmt: skip
    assert len({str(scheme) for scheme in schemes}) == len(schemes)
