"""Claim: rescaled group sums are added in their register, one rounding per operation, in the order that is named."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Overflow
from simulator.arithmetic.float_formats import BFLOAT16, E4M3, FLOAT16, FLOAT32
from simulator.arithmetic.group_sums import GroupOrder, GroupRegister, add_groups, add_integer_groups

f32 = np.float32
FORMATS = {FLOAT32: (24, -126, 127), FLOAT16: (11, -14, 15), BFLOAT16: (8, -126, 127)}


def nearest(value: Fraction, bits: int, low: int, high: int) -> Fraction | float:
    """The nearest number of ``bits`` significant bits, ties to even; an infinity beyond the largest."""
    if value == 0:
        return value
    exponent = math.floor(math.log2(abs(value)))
    while Fraction(2) ** exponent > abs(value):
        exponent -= 1
    while Fraction(2) ** (exponent + 1) <= abs(value):
        exponent += 1
    step = Fraction(2) ** (max(exponent, low) - bits + 1)
    rounded = round(value / step) * step
    return rounded if abs(rounded) < Fraction(2) ** (high + 1) else math.copysign(math.inf, value)


def held(value, fmt) -> Fraction | float:
    """float32 first, then the register; infinities stay."""
    for form in ((24, -126, 127), FORMATS[fmt]):
        value = nearest(Fraction(value), *form) if math.isfinite(value) else value
    return value


def added(a, b, fmt):
    if math.isfinite(a) and math.isfinite(b):
        return held(Fraction(a) + Fraction(b), fmt)
    return float(a) + float(b)


def scalar(sums, scales, left, bias, fmt, order):
    """One output, in rationals: the normative form."""
    parts = []
    for total, scale, other in zip(sums, scales, left, strict=True):
        factor = nearest(Fraction(float(scale)) * Fraction(float(other)), *FORMATS[FLOAT32])
        whole = nearest(Fraction(total), *FORMATS[FLOAT32])
        parts.append(held(whole * factor, fmt))
    while len(parts) > 1:
        pairs = 1 if order is GroupOrder.ASCENDING else len(parts) // 2
        parts = [added(parts[2 * i], parts[2 * i + 1], fmt) for i in range(pairs)] + parts[2 * pairs :]
    return parts[0] if bias is None else added(parts[0], Fraction(float(bias)), fmt)


@given(
    st.integers(1, 7), st.sampled_from(list(FORMATS)), st.sampled_from(GroupOrder), st.booleans(),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_add_groups__is_the_scalar_form_in_rationals(groups, fmt, order, with_bias, seed):
    rng = np.random.default_rng(seed)
    sums = rng.integers(-(2 ** int(rng.integers(1, 31))), 2 ** int(rng.integers(1, 31)), (groups, 2, 3))
    scale = np.exp2(rng.uniform(-12, 2, (groups, 3))).astype(f32)
    left = np.exp2(rng.uniform(-6, 2, (groups, 2, 1))).astype(f32)
    bias = rng.normal(size=3).astype(f32) * 100 if with_bias else None
    got = add_groups(sums, scale, GroupRegister(fmt, order), left_scale=left, bias=bias)
    assert got.dtype == f32
    for m, n in np.ndindex(2, 3):
        one = None if bias is None else bias[n]
        want = scalar(sums[:, m, n].tolist(), scale[:, n], left[:, m, 0], one, fmt, order)
        assert got[m, n] == float(want) or (np.isnan(got[m, n]) and math.isnan(want))


def test_add_groups__order_matters():
    # 2^24 + 1 stays 2^24 in float32: one by one four ones are lost, in pairs two of them arrive
    sums, ones = np.array([[2**24], [1], [1], [1]]), np.ones((4, 1), f32)
    found = [add_groups(sums, ones, GroupRegister(order=order)).item() for order in GroupOrder]
    assert found == [2.0**24, 2.0**24 + 2]


def test_add_groups__pairs_level_by_level_and_lets_an_odd_last_one_move_up():
    # (p0 + p1) + p2 of three, and ((p0 + p1) + (p2 + p3)) + p4 of five
    big, ones = 2**24, np.ones((5, 1), f32)
    pairwise = GroupRegister(order=GroupOrder.PAIRWISE)
    assert add_groups(np.array([[big], [1], [1]]), ones[:3], pairwise).item() == big
    # 2^24 + 2, and then a tie: 2^24 + 3 goes to 2^24 + 4
    assert add_groups(np.array([[1], [big], [1], [1], [1]]), ones, pairwise).item() == big + 4
    assert add_groups(np.array([[1], [big], [1], [1], [0]]), ones, pairwise).item() == big + 2


def test_add_groups__leaves_float16_for_an_infinity_and_bfloat16_does_not():
    sums, ones = np.array([[60000], [6000]]), np.ones((2, 1), f32)
    assert add_groups(sums, ones, GroupRegister(FLOAT16)).item() == np.inf
    assert add_groups(-sums, ones, GroupRegister(FLOAT16)).item() == -np.inf
    assert add_groups(sums, ones, GroupRegister(BFLOAT16)).item() == 66048
    assert add_groups(np.array([[65519], [0]]), ones, GroupRegister(FLOAT16)).item() == 65504
    assert add_groups(np.array([[65520], [-65520]]), ones, GroupRegister(FLOAT16)).item() != 0


def test_add_groups__rounds_a_sum_to_float32_and_the_scales_product_before_the_sum_meets_it():
    one, third = np.ones((1, 1), f32), np.full((1, 1), 1 / 3, f32)
    assert add_groups(np.array([[2**24 + 1]]), one, GroupRegister()).item() == 2**24
    got = add_groups(np.array([[12348]]), third, GroupRegister(), left_scale=third)
    assert got.item() == f32(12348) * (f32(1 / 3) * f32(1 / 3))
    assert got.item() != (f32(12348) * f32(1 / 3)) * f32(1 / 3)


@given(
    st.integers(1, 6), st.integers(2, 40), st.sampled_from(Overflow), st.sampled_from(GroupOrder),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_add_integer_groups__narrows_every_product_and_every_sum(groups, bits, overflow, order, seed):
    rng = np.random.default_rng(seed)
    machine = Accumulator(bits, overflow)
    sums = rng.integers(-(2**20), 2**20, (groups, 2, 3))
    multiplier = rng.integers(-(2**15), 2**15, (groups, 3)).astype(np.int16)
    got = add_integer_groups(sums, multiplier, machine, order)
    lost = 0
    for m, n in np.ndindex(2, 3):
        exact = [int(a) * int(b) for a, b in zip(sums[:, m, n], multiplier[:, n], strict=True)]
        parts = [machine.narrow(product) for product in exact]
        losses = sum(a != b for a, b in zip(exact, parts, strict=True))
        while len(parts) > 1:
            pairs = 1 if order is GroupOrder.ASCENDING else len(parts) // 2
            totals = [parts[2 * i] + parts[2 * i + 1] for i in range(pairs)]
            losses += sum(total != machine.narrow(total) for total in totals)
            parts = [machine.narrow(total) for total in totals] + parts[2 * pairs :]
        assert got.values[m, n] == parts[0]
        lost += parts[0] != sum(exact) if overflow is Overflow.WRAP else losses > 0
    assert got.overflowed == lost


def test_add_integer_groups__saturates_in_the_order_that_is_named():
    sums, ones, machine = np.array([[100], [100], [-100], [-100]]), np.ones((4, 1), np.int8), Accumulator(
        8, Overflow.SATURATE
    )  # fmt: skip
    ascending, pairwise = (add_integer_groups(sums, ones, machine, order) for order in GroupOrder)
    assert (ascending.values.item(), pairwise.values.item()) == (-73, -1)
    assert (ascending.overflowed, pairwise.overflowed) == (1, 1)


SUMS, SCALE = np.ones((2, 3, 4), np.int32), np.ones((2, 4), f32)
CASES = {
    "other register": lambda: GroupRegister(E4M3),
    "float sums": lambda: add_groups(SUMS.astype(f32), SCALE, GroupRegister()),
    "no groups": lambda: add_groups(SUMS[:0], SCALE[:0], GroupRegister()),
    "one axis": lambda: add_groups(SUMS[0, 0], SCALE, GroupRegister()),
    "scale per group alone": lambda: add_groups(SUMS, SCALE[:, :1], GroupRegister()),
    "float64 scale": lambda: add_groups(SUMS, SCALE.astype(float), GroupRegister()),
    "left scale of another shape": lambda: add_groups(SUMS, SCALE, GroupRegister(), left_scale=np.ones((2, 2, 1), f32)),
    "left scale per output": lambda: add_groups(SUMS, SCALE, GroupRegister(), left_scale=np.ones((2, 3, 4), f32)),
    "bias of another number": lambda: add_groups(SUMS, SCALE, GroupRegister(), bias=np.ones(3, f32)),
    "float multiplier": lambda: add_integer_groups(SUMS, SCALE, Accumulator()),
    "beyond int64": lambda: add_integer_groups(SUMS.astype(np.int64) << 55, SCALE.astype(np.int16) * 99, Accumulator()),
}


@pytest.mark.parametrize("case", CASES)
def test_group_sums__refuse_what_does_not_fit(case):
    with pytest.raises(BadInput):
        CASES[case]()
