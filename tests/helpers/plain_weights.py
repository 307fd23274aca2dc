"""Contractions of an activation with a weight in Python's integers: loops over the definition, no layout tricks."""

from __future__ import annotations

from itertools import product

import numpy as np

from simulator.instrument.contractions import ConvTranspose, Linear

F32 = np.float32


def steps(value, scale, zero, lowest, highest):
    """``code - zero`` of one number, half to even, and whether its code was clipped."""
    code = int(np.rint(F32(value) / F32(scale))) + int(zero)
    held = min(max(code, lowest), highest)
    return held - int(zero), held != code


def own_parameters(values, symmetric, qmax):
    """Scale and zero point (an int) of numbers over their own extremes, written out from the documented formula."""
    low, high = float(min(values)), float(max(values))
    if not any(values):
        return F32(1), 0
    if symmetric:
        return F32(max(abs(low), abs(high)) / qmax), 0
    low, high = min(low, 0.0), max(high, 0.0)
    scale = F32((high - low) / qmax)
    return scale, int(min(max(np.rint(-low / float(scale)), 0), qmax))


def places(contraction):
    """(index of the weight's element, output, input channel of that output) of every element."""
    weight = contraction.weight
    for index in np.ndindex(*weight.shape):
        if isinstance(contraction, ConvTranspose):
            inside = len(weight) // contraction.geometry.groups
            group, channel = divmod(index[0], inside)
            yield index, group * weight.shape[1] + index[1], channel
        else:
            yield index, index[0], index[1]


def sums(contraction, x, w, size):
    """Integer sums, object array (groups, *output shape) with channels where torch has them.

    Args:
        contraction: its form and geometry.
        x: ``code - zero`` of the input, object array.
        w: likewise of the weight, in its own layout.
        size: input channels of an output that are summed together.
    """
    shape = tuple(contraction.float().shape)
    parts = -(-contraction.contracted // size)
    out = np.zeros((parts, *shape), object)
    for index, output, channel in places(contraction):
        into = out[channel // size]
        if isinstance(contraction, Linear):
            into[..., output] += x[..., channel] * w[index]
            continue
        g, taps = contraction.geometry, index[2:]
        outputs = shape[1]
        source = output // (outputs // g.groups) * contraction.contracted + channel
        forward = isinstance(contraction, ConvTranspose)
        for pixel in product(*map(range, (x.shape if forward else shape)[2:])):
            other = tuple(
                i * s - before + tap * d
                for i, s, (before, _), tap, d in zip(pixel, g.stride, g.padding, taps, g.dilation, strict=True)
            )
            if not all(0 <= o < n for o, n in zip(other, (shape if forward else x.shape)[2:], strict=True)):
                continue
            at, read = (other, pixel) if forward else (pixel, other)
            into[(slice(None), output, *at)] += x[(slice(None), source, *read)] * w[index]
    return out


def epilogue(found, x_scale, w_scale, bias, channel_axis):
    """``y = f32(y + f32(f32(sum) * f32(x_scale w_scale)))`` by group, then the bias; w_scale (outputs, groups)."""
    total = None
    shape = [1] * (found.ndim - 1)
    shape[channel_axis] = -1
    for part, scale in zip(found, w_scale.T, strict=True):
        real = part.astype(np.int64).astype(F32) * (F32(x_scale) * scale.astype(F32)).reshape(shape)
        total = real if total is None else total + real
    return total if bias is None else total + bias.numpy().reshape(shape)
