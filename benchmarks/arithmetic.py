"""Time of the integer engine divided by the time of its peers, on the same shapes in one process.

Matmuls are M = N = K, convolutions 64 to 128 channels, 32 x 32 pixels, 3 x 3. Rounds are interleaved, the fastest of
many is taken, and the CPU is named: a ratio to float32 depends on how fast float32 multiplies there. Compile time is
excluded; packing is included where codes enter, and done beforehand where a layer has prepared its weight.

    python benchmarks/arithmetic.py [--size 1024] [--tiny]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from simulator.arithmetic import contract
from simulator.arithmetic.accumulator import Accumulator, Count, Overflow
from simulator.arithmetic.codes_out import conv_codes, linear_codes
from simulator.arithmetic.exact import exact_matmul
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import PerAxis, PerGroup
from simulator.arithmetic.kernels import paths
from simulator.arithmetic.matmul import integer_matmul
from simulator.arithmetic.operands import ScaledFormat, pad, quantize_image, quantize_matrices
from simulator.arithmetic.pair_accumulator import PairAccumulator
from simulator.arithmetic.quantizer import QuantSpec, quantize_to_range
from simulator.arithmetic.requantize import OnednnRequantizer
from simulator.arithmetic.weights import prepare_weight
from simulator.provenance import environment
from simulator.threads import set_threads

Call = Callable[[], object]

BYTES = QuantSpec(IntFormat(8, signed=False))
PER_OUTPUT = QuantSpec(IntFormat(8, narrow=True), PerAxis((0,)), symmetric=True)
GROUPED = QuantSpec(IntFormat(4), PerGroup(1, 128, (0,)), symmetric=True)
HOW = ScaledFormat(BYTES, np.float32(8 / 255), 128)
Y_SCALE, Y_ZERO = 0.05, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--tiny", action="store_true", help="small shapes, two rounds: only checks that it runs")
    options = parser.parse_args()
    size, rounds = (64, 2) if options.tiny else (options.size, 12)
    set_threads(1)
    print(f"cpu {environment()['cpu']}, kernel path {paths.PATH}, torch {torch.__version__}, one thread")
    peers = ["float32, torch.mm", "float32, oneDNN", "int8, torch._int_mm"]
    show(f"matmul {size}^3", fastest(matmuls(size), rounds), peers)
    show("matmul 64^3", fastest(small_matmuls(64), 20 * rounds), ["float32, numpy"])
    for batch in (1,) if options.tiny else (1, 8):
        show(
            f"convolution, batch {batch}",
            fastest(convolutions(batch), rounds),
            ["float32, channels-last", "codes in and out, torch onednn"],
        )
    two_threads(size, rounds)


def matmuls(size: int) -> dict[str, Call]:
    """Peers, then the engine."""
    rng = np.random.default_rng(0)
    real, weight = (rng.normal(size=(size, size)).astype(np.float32) for _ in range(2))
    x, w = rng.integers(0, 256, (size, size), np.uint8), rng.integers(-127, 128, (size, size), np.int8)
    wide = rng.integers(0, 1 << 16, (size, size), np.uint16)
    a, b = torch.from_numpy(real), torch.from_numpy(weight)
    signed, out = torch.from_numpy(w), np.empty((size, size), np.float32)
    left = quantize_matrices(real, HOW, side="left")
    per_output, grouped = (prepare_weight(quantize_to_range(weight, spec)) for spec in (PER_OUTPUT, GROUPED))
    requantizer = OnednnRequantizer(HOW.scale, per_output.scale[0], Y_SCALE, Y_ZERO, BYTES.format)
    calls: dict[str, Call] = {
        "float32, torch.mm": partial(torch.mm, a, b),
        "float32, oneDNN": partial(F.linear, a.to_mkldnn(), b.to_mkldnn()),
        "int8, torch._int_mm": partial(torch._int_mm, signed, signed),
        "fake-quant of both operands, torch": partial(fake_quantized, a, b),
        "int8 codes, exact int32": partial(exact_matmul, x, w, 128),
        "16-bit by int8 codes, exact int64": partial(exact_matmul, wide, w, 1 << 15),
        "W8A8 linear, codes in, float32 out": partial(contract.linear, left, per_output, out=out),
        "W8A8 linear, float32 in and out": lambda: contract.linear(
            quantize_matrices(real, HOW, side="left"), per_output, out=out
        ),
        "W8A8 linear, codes in and out": partial(linear_codes, left, per_output, requantizer),
        "W4A8 linear, groups of 128": partial(contract.linear, left, grouped, out=out),
        "saturating pairs": partial(integer_matmul, x, w, PairAccumulator(), x_zero=128),
    }
    for bits in (16, 24):
        calls[f"wraps at {bits} bits"] = partial(integer_matmul, x, w, Accumulator(bits, Overflow.WRAP), x_zero=128)
    for bits in (12, 16, 20, 24):
        saturating = partial(integer_matmul, x, w, Accumulator(bits, Overflow.SATURATE), x_zero=128)
        calls[f"saturates at {bits} bits"] = saturating
        calls[f"saturates at {bits} bits, not counted"] = partial(saturating, count=Count.NONE)
    return calls


def small_matmuls(size: int) -> dict[str, Call]:
    """Where a call's own cost shows."""
    rng = np.random.default_rng(0)
    real, weight = (rng.normal(size=(size, size)).astype(np.float32) for _ in range(2))
    left, prepared = quantize_matrices(real, HOW, side="left"), prepare_weight(quantize_to_range(weight, PER_OUTPUT))
    return {
        "float32, numpy": partial(np.matmul, real, weight),
        "W8A8 linear, codes in, float32 out": partial(contract.linear, left, prepared),
    }


def convolutions(batch: int) -> dict[str, Call]:
    """Torch's float32 and oneDNN's int8 convolution, then the engine's."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(batch, 32, 32, 64)).astype(np.float32)
    weight = rng.normal(size=(128, 64, 3, 3)).astype(np.float32) / 24
    geometry = Geometry.of(2, padding=1)
    prepared, codes = prepare_weight(quantize_to_range(weight, PER_OUTPUT)), quantize_image(real, HOW)
    requantizer = OnednnRequantizer(HOW.scale, prepared.scale[0], Y_SCALE, Y_ZERO, BYTES.format)
    image = torch.from_numpy(real).permute(0, 3, 1, 2)
    kernel = torch.from_numpy(weight).to(memory_format=torch.channels_last)
    torch.backends.quantized.engine = "onednn"
    packed = torch.ops.quantized.conv2d_prepack(
        torch.quantize_per_channel(
            kernel, torch.from_numpy(prepared.scale[0]).double(), torch.zeros(128, dtype=torch.long), 0, torch.qint8
        ),
        None, [1, 1], [1, 1], [1, 1], 1,
    )  # fmt: skip
    quantized = torch.quantize_per_tensor(image, float(HOW.scale), HOW.zero_point, torch.quint8)
    out = np.empty((batch, 32, 32, 128), np.float32)
    return {
        "float32, channels-last": partial(F.conv2d, image, kernel, padding=1),
        "codes in and out, torch onednn": partial(torch.ops.quantized.conv2d, quantized, packed, Y_SCALE, Y_ZERO),
        "codes in and out": lambda: conv_codes(pad(codes, geometry), prepared, requantizer, geometry),
        "float32 in and out": lambda: contract.conv(
            quantize_image(real, HOW, geometry), prepared, None, geometry, out=out
        ),
    }


def fake_quantized(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """What is simulated in float elsewhere: both operands rounded, a float32 product."""
    scale, zero = torch.full((len(w),), 0.02), torch.zeros(len(w), dtype=torch.int32)
    return F.linear(
        torch.fake_quantize_per_tensor_affine(x, float(HOW.scale), HOW.zero_point, 0, 255),
        torch.fake_quantize_per_channel_affine(w, scale, zero, 0, -127, 127),
    )


def two_threads(size: int, rounds: int) -> None:
    """How much the second thread brings."""
    calls, seconds = matmuls(size), {}
    names = ("float32, torch.mm", "int8, torch._int_mm", "int8 codes, exact int32", "saturates at 20 bits")
    for threads in (1, 2):
        set_threads(threads)
        seconds[threads] = fastest({name: calls[name] for name in names}, rounds)
    set_threads(1)
    print(f"\n{'two threads, matmul ' + str(size) + '^3':42s} speed-up")
    for name in names:
        print(f"{name:42s} {seconds[1][name] / seconds[2][name]:8.2f}")


def fastest(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Seconds of the fastest of interleaved rounds, after one round that compiles."""
    seconds = dict.fromkeys(calls, float("inf"))
    for attempt in range(rounds + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if attempt:
                seconds[name] = min(seconds[name], time.perf_counter() - started)
    return seconds


def show(title: str, seconds: dict[str, float], peers: list[str]) -> None:
    """One row per form, one column per peer."""
    print(f"\n{title:42s}" + "".join(f"{'/ ' + peer:>34s}" for peer in peers))
    for name, own in seconds.items():
        print(f"{name:42s}" + "".join(f"{own / seconds[peer]:34.2f}" for peer in peers))


if __name__ == "__main__":
    main()
