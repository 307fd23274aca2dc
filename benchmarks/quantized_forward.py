"""Wall time of the quantized run, divided by the same torch model's own float forward passes.

Each form samples a batch by a few DDIM steps. Rounds are interleaved in one process and the ratio of the medians is
printed, with the CPU's name: the ratio depends on how well torch's float32 does there. Compile time is excluded.

    python benchmarks/quantized_forward.py [--batch 64] [--threads 2] [--tiny]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import simulator
from samplers import DDIM, NoiseStream, sample
from simulator.arithmetic.kernels import paths
from simulator.instrument.forward import forward
from simulator.provenance import environment
from simulator.threads import set_threads

STEPS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tiny", action="store_true", help="two rounds: only checks that it runs")
    options = parser.parse_args()
    set_threads(options.threads)
    model = simulator.load("digits-unet")
    ranges = simulator.calibrate_ranges(model, DDIM(model.schedule, 4), samples=16)
    networks = {
        name: simulator.QuantizedModel(model, simulator.Scheme.parse(name), ranges) for name in ("w8a8", "w4a4")
    }
    sampler, members, noise = DDIM(model.schedule, STEPS), range(options.batch), NoiseStream(0, "benchmark")

    def run(denoiser: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], object]:
        return lambda: sample(denoiser, sampler, noise, members, model.sample_shape)

    def paired() -> object:
        arm = simulator.Arm(networks["w8a8"])
        return simulator.run(arm, sampler, samples=options.batch, batch_size=options.batch, purpose="benchmark")

    forms = {
        "float": run(model.module),
        "float, intercepted and audited": run(lambda x, t: forward(model.module, lambda site, op: op.float(), x, t)),
        **{f"{name} in exact integers": run(network) for name, network in networks.items()},
        "paired run: float, 2 x w8a8, moments": paired,
    }
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(2 if options.tiny else 20):
        for name, form in forms.items():
            started = time.perf_counter()
            form()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times[len(times) // 4 :]) for name, times in seconds.items()}
    print(f"cpu {environment()['cpu']}, tile {paths.PATH}, batch {options.batch}, threads {options.threads}")
    for name, median in medians.items():
        print(f"{name:38s} {median / medians['float']:.2f} x {STEPS} float forward passes")


if __name__ == "__main__":
    main()
