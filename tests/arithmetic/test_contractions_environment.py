"""Claim: threads, compiler and CPU path change no bit of an exact or limited contraction, nor of codes out of one."""

from __future__ import annotations

import json
from pathlib import Path

import plain_convolution
import pytest

from simulator.arithmetic.kernels import accelerate, paths

HELPERS = str(Path(plain_convolution.__file__).parent)

COMPUTE = f"""
import sys, hashlib
sys.path.insert(0, {HELPERS!r})
import numpy as np
from byte_operands import operands, quantized
from plain_convolution import random_geometry, random_operands
from simulator.arithmetic.accumulator import Accumulator, Overflow
from simulator.arithmetic.codes_out import conv_codes, linear_codes
from simulator.arithmetic.conv import integer_conv
from simulator.arithmetic.exact import exact_conv
from simulator.arithmetic.matmul import integer_matmul
from simulator.arithmetic.operands import left_operand
from simulator.arithmetic.requantize import OnnxRuntimeRequantizer
from simulator.arithmetic.weights import prepare_weight

def problems(rng):
    for axes in (1, 2, 2, 3):
        geometry = random_geometry(rng, axes)
        for types in (("u1", "i1"), ("i2", "u1")):
            yield geometry, random_operands(rng, geometry, *types)

def tile_digest():
    rng = np.random.default_rng(12)
    total = hashlib.sha256()
    requantizer = OnnxRuntimeRequantizer(0.5, 0.01, 2.0, 3)
    for geometry, (x, w, x_zero, w_zero) in problems(rng):
        total.update(exact_conv(x, w, geometry, x_zero, w_zero).astype(np.int64).tobytes())
        found = integer_conv(x[:1], w, Accumulator(12, Overflow.WRAP), geometry, x_zero=x_zero, w_zero=w_zero)
        total.update(found.values.tobytes() + str(found.overflowed).encode())
        if (x.dtype, w.dtype) != (np.uint8, np.int8):
            continue
        both = operands(np.moveaxis(x, -1, 1), x_zero, w, 7, geometry)
        total.update(conv_codes(*both, requantizer, geometry).codes.tobytes())
    rows, weight = rng.integers(0, 256, (90, 33), np.uint8), rng.integers(-128, 128, (40, 33)).astype(np.int8)
    coded = linear_codes(left_operand(quantized(rows, 9)), prepare_weight(quantized(weight, 1)), requantizer)
    total.update(coded.codes.tobytes() + str(coded.saturated).encode())
    return total.hexdigest()

def lane_digest():
    rng = np.random.default_rng(13)
    total = hashlib.sha256()
    for geometry, (x, w, x_zero, w_zero) in problems(rng):
        machine = Accumulator(13, Overflow.SATURATE)
        found = integer_conv(x[:1], w, machine, geometry, x_zero=x_zero, w_zero=w_zero)
        total.update(found.values.tobytes() + str(found.overflowed).encode())
    rows, weight = rng.integers(0, 256, (90, 33), np.uint8), rng.integers(-128, 128, (40, 33)).astype(np.int8)
    for bits in (12, 16, 20):
        found = integer_matmul(rows[:40, :9], weight[:, :9], Accumulator(bits, Overflow.SATURATE, 2))
        total.update(found.values.tobytes() + str(found.overflowed).encode())
    return total.hexdigest()
"""
PRINT = COMPUTE + "\nprint(tile_digest(), lane_digest())"
THREADS = """
import json, numba
from simulator.arithmetic import contract
from simulator.arithmetic.kernels import accelerate
contract.SMALL = 0  # small problems too go to the threads
found = {}
for threads in (1, 2, 16):
    accelerate.set_threads(threads)
    found[numba.get_num_threads()] = tile_digest(), lane_digest()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def expected(one_thread):
    scope: dict = {}
    exec(COMPUTE, scope)
    return scope["tile_digest"](), scope["lane_digest"]()


def test_contractions__give_the_same_bits_for_1_2_and_16_threads(fresh_python, expected):
    found = json.loads(fresh_python(COMPUTE + THREADS, NUMBA_NUM_THREADS="16", OMP_NUM_THREADS=None).stdout)
    if accelerate.PARALLEL:
        assert set(found) == {"1", "2", "16"}
    assert set(map(tuple, found.values())) == {expected}


@pytest.mark.parametrize("path", [None, "portable"])
def test_contractions__give_the_same_bits_without_the_compiler(fresh_python, expected, path):
    printed = fresh_python(PRINT, NUMBA_DISABLE_JIT="1", QNOISE_KERNEL_PATH=path).stdout
    assert tuple(printed.split()) == expected


def require(path):
    if path not in paths.supported_paths():
        pytest.skip(f"this CPU has no {path}")


@pytest.mark.parametrize("path", paths.NEEDS)
def test_contractions__give_the_same_bits_on_every_path_this_cpu_supports(fresh_python, expected, path):
    require(path)
    printed = fresh_python(COMPUTE + "\nprint(tile_digest())", QNOISE_KERNEL_PATH=path).stdout
    assert printed.strip() == expected[0]


@pytest.mark.slow  # by default test_quantizers_and_registers__run_in_kernels_that_have_no_path
@pytest.mark.parametrize("path", paths.NEEDS)
def test_saturating_registers__give_the_same_bits_on_every_path_this_cpu_supports(fresh_python, expected, path):
    require(path)
    printed = fresh_python(COMPUTE + "\nprint(lane_digest())", QNOISE_KERNEL_PATH=path).stdout
    assert printed.strip() == expected[1]
