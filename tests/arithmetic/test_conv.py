"""Claim: a convolution through an accumulator is the normative scalar form over each window's products in its order.

The transposed convolution is torch's, in exact integers.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from plain_convolution import convolve, random_geometry, random_operands

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Bias, KOrder, Overflow, ZeroPoint, accumulate_exact
from simulator.arithmetic.conv import integer_conv, integer_conv_transpose
from simulator.arithmetic.geometry import Geometry

pytestmark = pytest.mark.usefixtures("one_thread")

EXACT = Accumulator()
MACHINES = [
    EXACT,
    Accumulator(12, Overflow.WRAP),
    Accumulator(17, Overflow.WRAP, zero_point=ZeroPoint.OUTSIDE),
    Accumulator(16, Overflow.SATURATE),
    Accumulator(14, Overflow.SATURATE, 4, KOrder.CHANNEL_ROW_COLUMN, ZeroPoint.OUTSIDE, Bias.LAST),
    Accumulator(20, Overflow.SATURATE, 3, KOrder.CHANNEL_ROW_COLUMN, ZeroPoint.INSIDE, Bias.LAST),
]


def scalar_form(x, w, machine, geometry, x_zero, w_zero, bias):
    """Output by output: the window's codes in the stated order, then ``accumulate_exact``."""
    padded = np.pad(x, ((0, 0), *geometry.padding, (0, 0)), constant_values=x_zero).tolist()
    outputs, channels, *kernel = w.shape
    share = outputs // geometry.groups
    size = geometry.output_size(x.shape[1:-1], tuple(kernel))
    zeros = np.broadcast_to(w_zero, (outputs,)).tolist()
    values, lost = np.zeros((len(x), *size, outputs), object), 0

    def at(image, index):
        for i in index:
            image = image[i]
        return image

    for b, n in product(range(len(x)), range(outputs)):
        for pixel in product(*map(range, size)):
            a, c = [], []
            positions = list(product(*map(range, kernel)))
            order = product(positions, range(channels))
            if machine.k_order is KOrder.CHANNEL_ROW_COLUMN:
                order = ((p, ch) for ch, p in product(range(channels), positions))
            for p, ch in order:
                where = [i * s + t * d for i, s, t, d in zip(pixel, geometry.stride, p, geometry.dilation, strict=True)]
                a.append(at(padded[b], where)[(n // share) * channels + ch])
                c.append(int(w[(n, ch, *p)]))
            total, overflowed = accumulate_exact(a, c, machine, x_zero, zeros[n], int(bias[n]))[:2]
            values[(b, *pixel, n)] = total
            lost += bool(overflowed)
    return values, lost


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: f"{m.overflow.name}{m.bits}-{m.tree}")
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_integer_conv__is_the_scalar_form(axes, machine):
    rng = np.random.default_rng([axes, machine.bits])
    for _ in range(4):
        geometry = random_geometry(rng, axes)
        x, w, x_zero, w_zero = random_operands(rng, geometry)
        x, w, w_zero = x[:1], w[: 3 * geometry.groups], np.broadcast_to(w_zero, len(w))[: 3 * geometry.groups]
        w = w[: len(w) // geometry.groups * geometry.groups]
        bias = rng.integers(-5000, 5000, len(w))
        w_zero = w_zero[: len(w)]
        got = integer_conv(x, w, machine, geometry, x_zero=x_zero, w_zero=w_zero, bias=bias)
        want, lost = scalar_form(x, w, machine, geometry, x_zero, w_zero, bias)
        assert got.values.shape == want.shape
        assert np.array_equal(got.values, want.astype(np.int64))
        assert got.overflowed == lost


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_integer_conv__exact_is_the_sum_over_taps_with_and_without_bias(axes):
    rng = np.random.default_rng(axes)
    for _ in range(10):
        geometry = random_geometry(rng, axes)
        x, w, x_zero, w_zero = random_operands(rng, geometry)
        bias, want = rng.integers(-(2**40), 2**40, len(w)), convolve(x, w, geometry, x_zero, w_zero)
        plain = integer_conv(x, w, Accumulator(), geometry, x_zero=x_zero, w_zero=w_zero)
        with_bias = integer_conv(x, w, Accumulator(), geometry, x_zero=x_zero, w_zero=w_zero, bias=bias)
        assert np.array_equal(plain.values, want)
        assert np.array_equal(with_bias.values, want + bias)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_integer_conv_transpose__is_torchs(axes):
    torch = pytest.importorskip("torch")
    transpose = getattr(torch.nn.functional, f"conv_transpose{axes}d")
    rng = np.random.default_rng(axes)
    compared = 0
    for _ in range(60):
        groups = int(rng.choice([1, 1, 2, 3]))
        kernel, size = (tuple(int(n) for n in rng.integers(low, 5, axes)) for low in (1, 2))
        stride, dilation = (tuple(int(n) for n in rng.integers(1, 4, axes)) for _ in range(2))
        padding = tuple(int(n) for n in rng.integers(0, 3, axes))
        extra = tuple(int(rng.integers(0, max(pair))) for pair in zip(stride, dilation, strict=True))
        x = rng.integers(0, 256, (2, *size, 2 * groups)).astype(np.uint8)
        w = rng.integers(-128, 128, (2 * groups, int(rng.integers(1, 4)), *kernel)).astype(np.int8)
        x_zero, bias = int(rng.integers(256)), rng.integers(-1000, 1000, w.shape[1] * groups)
        geometry = Geometry.of(axes, stride=stride, padding=padding, dilation=dilation, groups=groups)

        def ours(machine=EXACT, x=x, w=w, geometry=geometry, extra=extra, x_zero=x_zero, bias=bias):
            return integer_conv_transpose(
                x, w, machine, geometry, output_padding=extra, x_zero=x_zero, bias=bias
            ).values

        image = torch.tensor(x.astype(float) - x_zero).movedim(-1, 1)
        try:
            want = transpose(
                image, torch.tensor(w.astype(float)), torch.tensor(bias.astype(float)), stride=stride,
                padding=padding, output_padding=extra, groups=groups, dilation=dilation,
            ).movedim(1, -1)  # fmt: skip
        except RuntimeError:  # an output without elements
            with pytest.raises(BadInput):
                ours()
            continue
        for machine in (EXACT, Accumulator(48, Overflow.SATURATE, zero_point=ZeroPoint.OUTSIDE)):
            assert np.array_equal(ours(machine), want.numpy())
        compared += 1
    assert compared > 30


CODES, KERNEL = np.ones((1, 4, 4, 2), np.int8), np.ones((2, 2, 3, 3), np.int8)
CASES = {
    "other rank": (lambda: integer_conv(CODES, KERNEL[..., 0], Accumulator(), Geometry.of(2)), "spatial"),
    "other channels": (lambda: integer_conv(CODES[..., :1], KERNEL, Accumulator()), "channels"),
    "kernel too large": (lambda: integer_conv(CODES[:, :2], KERNEL, Accumulator()), "kernel"),
    "floats": (lambda: integer_conv(CODES.astype("f4"), KERNEL, Accumulator()), "codes"),
    "bias of another number": (lambda: integer_conv(CODES, KERNEL, Accumulator(), bias=np.zeros(3, int)), "bias"),
    "output padding too large": (
        lambda: integer_conv_transpose(CODES, KERNEL, Accumulator(), output_padding=1),
        "output_padding",
    ),
    "transposed rank": (lambda: integer_conv_transpose(CODES, KERNEL[0, 0], Accumulator()), "channels"),
    "no output left": (
        lambda: integer_conv_transpose(CODES, KERNEL, Accumulator(), Geometry.of(2, padding=3)),
        "padded image",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_integer_conv__refuses_what_does_not_fit(case):
    call, word = CASES[case]
    with pytest.raises(BadInput, match=word):
        call()
