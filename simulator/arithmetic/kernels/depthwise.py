"""Depthwise convolution: every output channel sums the taps of one input channel, all channels side by side.

The tile would multiply 31 columns of 32 for nothing. Sums are exact modulo 2**32, as the tile's.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from simulator.arithmetic.kernels.accelerate import kernel, parallel_kernel
from simulator.arithmetic.kernels.contract import CHUNK, KERNEL, ROWS, locate, rescale, store


@kernel
def sum_taps(image, window, taps, row, out):
    """``out[n] = sum_t x[t, n // multiplier] taps[t, n]`` of output pixel ``row``."""
    channels, flat = image.shape[4], image.reshape(-1)
    multiplier = out.size // channels
    corner, step_z, step_y, step_x = locate(image, window, row)
    for n in range(out.size):
        out[n] = 0
    t = 0
    for i in range(window[KERNEL, 0]):
        for j in range(window[KERNEL, 1]):
            for k in range(window[KERNEL, 2]):
                first = corner + i * step_z + j * step_y + k * step_x
                pixel, weight = flat[first : first + channels], taps[t]
                if multiplier == 1:
                    for n in range(channels):
                        out[n] = np.int32(out[n] + np.int32(np.int32(pixel[n]) * np.int32(weight[n])))
                else:
                    for n in range(out.size):
                        value = np.int32(pixel[n // multiplier])
                        out[n] = np.int32(out[n] + np.int32(value * np.int32(weight[n])))
                t += 1


@kernel
def depthwise_serial(
    first, last, total, image, window, taps, left_zero, left_scale, rows_per_parameter, column_sum, scale, bias, sums,
    out,
):  # fmt: skip
    """Chunks ``first`` to ``last`` of :func:`depthwise`."""
    outputs = taps.shape[1]
    wide, zeros, scales = np.empty((ROWS, outputs), np.int32), np.zeros(ROWS, np.int32), np.zeros(ROWS, np.float32)
    flat_sums, flat_out = sums.reshape(-1), out.reshape(-1)
    for top in range(first * CHUNK, min(last * CHUNK, total), ROWS):
        rows = min(ROWS, total - top)
        for r in range(rows):
            sum_taps(image, window, taps, top + r, wide[r])
            parameter = (top + r) // rows_per_parameter
            zeros[r], scales[r] = left_zero[0, parameter], left_scale[0, parameter]
        if sums.size:
            store(wide, rows, zeros, column_sum[0], flat_sums, top * outputs, outputs)
        else:
            rescale(
                wide, rows, zeros, column_sum[0], scales, scale[0], bias, False, True, flat_out, top * outputs, outputs
            )


@parallel_kernel
def depthwise(
    first, last, total, image, window, taps, left_zero, left_scale, rows_per_parameter, column_sum, scale, bias, sums,
    out,
):  # fmt: skip
    """int32 ``sums`` (1, total, outputs), or float32 ``out`` (total, outputs) where ``sums`` is empty; as ``contract``.

    ``taps`` (taps, outputs) int16 holds ``code - zero_point``.
    """
    for chunk in prange(first, last):
        depthwise_serial(
            chunk, chunk + 1, total, image, window, taps, left_zero, left_scale, rows_per_parameter, column_sum, scale,
            bias, sums, out,
        )  # fmt: skip
