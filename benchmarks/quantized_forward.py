"""Wall time of the shipped model in exact integers, divided by the same torch model's float forward pass.

Rounds are interleaved in one process and the ratio of the medians is printed, with the CPU's name: the ratio depends on
how well torch's float32 does there. Compile time is excluded.

    python benchmarks/quantized_forward.py [--batch 64] [--threads 2] [--tiny]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import simulator
from samplers import DDIM
from simulator.arithmetic.kernels import tile
from simulator.instrument.forward import forward
from simulator.provenance import environment
from simulator.threads import set_threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tiny", action="store_true", help="two rounds: only checks that it runs")
    options = parser.parse_args()
    set_threads(options.threads)
    model = simulator.load("digits-unet")
    model.module.to(memory_format=torch.channels_last)
    ranges = simulator.calibrate_ranges(model, DDIM(model.schedule, 4), samples=16)
    x, timestep = torch.randn(options.batch, *model.sample_shape), torch.full((options.batch,), 500)
    networks = {
        name: simulator.QuantizedModel(model, simulator.Scheme.parse(name), ranges) for name in ("w8a8", "w4a4")
    }
    plain = torch.no_grad()(model.module)
    forms = {
        "float": lambda: plain(x, timestep),
        "float, intercepted": lambda: forward(model.module, lambda site, op: op.float(), x, timestep),
        **{name: lambda network=network: network(x, timestep) for name, network in networks.items()},
    }
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(2 if options.tiny else 60):
        for name, form in forms.items():
            started = time.perf_counter()
            form()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times[len(times) // 4 :]) for name, times in seconds.items()}
    print(f"cpu {environment()['cpu']}, tile {tile.PATH}, batch {options.batch}, threads {options.threads}")
    for name, median in medians.items():
        print(f"{name:20s} {median / medians['float']:.2f} of the float forward pass")


if __name__ == "__main__":
    main()
