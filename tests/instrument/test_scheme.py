"""Claim: ``wXaY`` and ``wXgNaY`` mean exactly the documented specs, and every other text is refused readably."""

from __future__ import annotations

import pytest

from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerAxis, PerGroup, PerTensor
from simulator.arithmetic.rounding import Rounding
from simulator.instrument.scheme import Scheme


@pytest.mark.parametrize("weight", range(2, 9))
@pytest.mark.parametrize("activation", range(2, 9))
@pytest.mark.parametrize("group", [None, 1, 32, 128])
def test_parse__reads_what_str_writes(weight, activation, group):
    scheme = Scheme(weight, activation, group)
    assert Scheme.parse(str(scheme)) == scheme
    assert Scheme.parse(f"  {str(scheme).upper()} ") == scheme


def test_parse__reads_the_documented_forms():
    assert Scheme.parse("w4a8") == Scheme(4, 8)
    assert Scheme.parse("w4g32a8") == Scheme(4, 8, 32)
    assert str(Scheme.parse("w4g32a8")) == "w4g32a8"


@pytest.mark.parametrize(
    "text",
    ["", "w3q8", "w1a8", "w9a9", "w8a9", "w8a1", "w4g0a8", "w4a8g32", "a8w4", "w-4a8", "w4.0a8", "w4a8 w4a8", "w4 a8",
     "w4ga8", "wa", "w8", "w16a16", "w4a8\nw4a8", "w٨a8"],
)  # fmt: skip
def test_parse__refuses_anything_else(text):
    with pytest.raises(BadInput) as caught:
        Scheme.parse(text)
    assert caught.value.fix


@pytest.mark.parametrize("arguments", [(1, 8), (9, 8), (8, 1), (8, 9), (8, 8, 0), (8, 8, -1), (8.0, 8), (8, 8, 2.5)])
def test_scheme__refuses_widths_it_cannot_run(arguments):
    with pytest.raises(BadInput):
        Scheme(*arguments)


def test_weight_spec__is_symmetric_narrow_per_output_and_8_bits_at_the_edge():
    spec = Scheme(4, 6).weight_spec(edge=False)
    assert spec.format == IntFormat(4, signed=True, narrow=True)
    assert spec.symmetric
    assert spec.granularity == PerAxis((0,))
    edge = Scheme(4, 6, 32).weight_spec(edge=True)
    assert edge.format == IntFormat(8, signed=True, narrow=True)
    assert edge.granularity == PerAxis((0,))
    assert Scheme(4, 6, 32).weight_spec(edge=False).granularity == PerGroup(1, 32, (0,))


def test_activation_spec__is_unsigned_asymmetric_per_tensor_and_8_bits_at_the_edge():
    spec = Scheme(4, 6, rounding=Rounding.HALF_AWAY).activation_spec(edge=False)
    assert spec.format == IntFormat(6, signed=False)
    assert not spec.symmetric
    assert spec.granularity == PerTensor()
    assert spec.rounding is Rounding.HALF_AWAY
    assert Scheme(4, 6).activation_spec(edge=True).format == IntFormat(8, signed=False)


def test_str__tells_schemes_apart():
    modes = [mode for mode in Rounding if mode is not Rounding.STOCHASTIC]
    schemes = [Scheme(w, a, g, r) for w in (2, 8) for a in (2, 8) for g in (None, 4) for r in modes]
    assert len({str(scheme) for scheme in schemes}) == len(schemes)
    assert [Scheme.parse(str(scheme)) for scheme in schemes] == schemes


def test_scheme__does_not_round_stochastically():
    with pytest.raises(BadInput, match="deterministically"):
        Scheme(8, 8, rounding=Rounding.STOCHASTIC)
    with pytest.raises(BadInput, match="rounding must be one of"):
        Scheme.parse("w8a8-stochastic")
