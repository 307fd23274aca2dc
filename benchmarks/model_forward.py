"""Time and memory of one forward pass, divided by the same torch model's in float32.

Two networks with random weights: diffusers' UNet of the CIFAR-10 size (UNet2DModel, channels 128/256/256/256, attention
at 16 x 16, once with diffusers' default heads of 8 features and once with one head as google/ddpm-cifar10-32 has), and
a transformer of DiT-S/2's size (12 layers, 6 heads of 64 features, 32 x 32 x 4). Rounds are interleaved in one process
and the fastest of many is taken; compile time is excluded. On one thread the thread's own CPU time is read, which other
programs disturb less. Peak memory is measured in fresh processes, from before the network is built, in a process that
has loaded everything and run a shipped network.

    python benchmarks/model_forward.py [--models unet unet-one-head dit] [--threads 1] [--rounds 10] [--tiny]
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import simulator
from samplers.ddim import DDIM
from samplers.schedule import NoiseSchedule
from simulator.arithmetic.kernels import paths
from simulator.arithmetic.operands import ScaledFormat
from simulator.calibration.collector import Collector
from simulator.calibration.ranges import Ranges
from simulator.instrument.contractions import Contraction, MatMul
from simulator.instrument.forward import forward
from simulator.instrument.interception import InFloat
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.rungs import Rung
from simulator.instrument.scheme import Scheme
from simulator.instrument.sites import SiteKey, watching
from simulator.models.dit import DiT, DiTConfig
from simulator.models.registry import Model
from simulator.provenance import environment
from simulator.threads import set_threads

CLEAR = Path("/proc/self/clear_refs")
PEAKS = ("plain", "w8a8", "recorded")
PLAIN, FAKE = "float32, plain torch", "fake-quantized in float32"


class Unet(nn.Module):
    """diffusers' UNet, called as ``module(x, timestep)``."""

    def __init__(self, channels: tuple[int, ...], head_size: int | None) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        down, up = ["DownBlock2D"] * len(channels), ["UpBlock2D"] * len(channels)
        down[1], up[-2] = "AttnDownBlock2D", "AttnUpBlock2D"
        self.unet = UNet2DModel(
            sample_size=32, in_channels=3, out_channels=3, layers_per_block=2, block_out_channels=channels,
            down_block_types=down, up_block_types=up, attention_head_dim=head_size,
        )  # fmt: skip

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        """Predicted noise."""
        return self.unet(x, timestep, return_dict=False)[0]


def unet(tiny: bool, head_size: int | None = 8) -> tuple[Model, int]:
    """The CIFAR-10-size UNet and the batch."""
    channels = (32, 32) if tiny else (128, 256, 256, 256)
    return as_model(Unet(channels, head_size), (3, 32, 32)), 1 if tiny else 8


def transformer(tiny: bool) -> tuple[Model, int]:
    """The DiT-S/2-size transformer and the batch; its zero-initialised layers are random too."""
    size = 48 if tiny else 384
    network = DiT(
        DiTConfig(
            image_channels=4, image_size=32, width=size, depth=1 if tiny else 12, heads=6, mlp_width=4 * size,
            condition_width=size, classes=1000,
        )
    )  # fmt: skip
    for parameter in network.parameters():
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return as_model(network, (4, 32, 32)), 1 if tiny else 4


MODELS: dict[str, Callable[[bool], tuple[Model, int]]] = {
    "unet": unet,
    "unet-one-head": lambda tiny: unet(tiny, None),
    "dit": transformer,
}


def as_model(module: nn.Module, shape: tuple[int, ...]) -> Model:
    return Model("benchmark", 1, module.eval().requires_grad_(False), NoiseSchedule(), shape, "epsilon", "0" * 64)


def build(name: str, tiny: bool) -> tuple[Model, Tensor, Tensor]:
    """A network, and a batch of its inputs."""
    torch.manual_seed(0)
    model, batch = MODELS[name](tiny)
    return model, torch.randn(batch, *model.sample_shape), torch.full((batch,), 500)


def ranges_of(model: Model, x: Tensor, timestep: Tensor) -> Ranges:
    """Ranges of a pass of one sample: enough to time with."""
    observer = Collector()
    forward(model.module, observer, x[:1], timestep[:1], call=model.call)
    return observer.ranges({})


class FakeQuantized:
    """Handler: the operands rounded to their grids in float32, elementwise as written in methods' code, then torch."""

    def __init__(self, quantized: QuantizedModel) -> None:
        self._quantized = quantized

    def __call__(self, site: SiteKey, contraction: Contraction) -> Tensor:
        """The contraction of rounded operands."""
        formats = self._quantized.formats(site)
        operands = {role: rounded(x, formats[role]) for role, x in contraction.activations().items()}
        if isinstance(contraction, MatMul):
            return MatMul(*operands.values(), contraction.roles).float()
        changed = dict(vars(contraction), input=operands["input"], weight=rounded_weight(contraction.weight))
        return type(contraction)(**changed).float()


def rounded(x: Tensor, how: ScaledFormat) -> Tensor:
    codes = torch.clamp(torch.round(x / float(how.scale)) + how.zero_point, 0, how.spec.format.qmax)
    return (codes - how.zero_point) * float(how.scale)


def rounded_weight(weight: Tensor) -> Tensor:
    scale = weight.flatten(1).abs().amax(1).reshape(-1, *[1] * (weight.ndim - 1)) / 127
    return torch.clamp(torch.round(weight / scale), -127, 127) * scale


def forms(model: Model, x: Tensor, timestep: Tensor) -> dict[str, Callable[[], Any]]:
    ranges = ranges_of(model, x, timestep)
    networks = {name: QuantizedModel(model, Scheme.parse(name), ranges) for name in ("w8a8", "w4a8")}
    in_float, fake = InFloat(), FakeQuantized(networks["w8a8"])
    run = model.module
    return {
        PLAIN: lambda: run(x, timestep),
        "intercepted, all sites in float": lambda: forward(run, in_float, x, timestep, audit=False),
        "intercepted and audited": lambda: forward(run, in_float, x, timestep),
        "w8a8 in exact integers": lambda: networks["w8a8"](x, timestep, audit=False),
        "w8a8, audited": lambda: networks["w8a8"](x, timestep),
        "w8a8, every site watched": lambda: networks["w8a8"](x, timestep, lambda *seen: None, audit=False),
        "w4a8 in exact integers": lambda: networks["w4a8"](x, timestep, audit=False),
        FAKE: lambda: forward(run, fake, x, timestep, audit=False),
        **measured_forms(model, networks["w8a8"], len(x)),
    }


def measured_forms(model: Model, network: QuantizedModel, batch: int) -> dict[str, Callable[[], Any]]:
    """One step of the recorded runs, the full-precision forward and the moments included."""
    one_step: dict[str, Any] = {"sampler": DDIM(model.schedule, 1), "samples": batch, "batch_size": batch}
    return {
        "float, w8a8, moments of sites": lambda: simulator.run(simulator.Arm(network), kinds=("injected",), **one_step),
        "the same, and local moments": lambda: simulator.attribute(network, rungs=(Rung.COMPLETE,), **one_step),
        "the same, and a rung more": lambda: simulator.attribute(
            network, rungs=(Rung.REGISTER, Rung.COMPLETE), **one_step
        ),
    }


def measure(name: str, threads: int, rounds: int, tiny: bool) -> None:
    model, x, timestep = build(name, tiny)
    calls = forms(model, x, timestep)
    seconds = dict.fromkeys(calls, float("inf"))
    clock = time.thread_time if threads == 1 else time.perf_counter
    with torch.no_grad(), watching(model.module):
        for attempt in range(rounds + 1):
            for form, call in calls.items():
                started = clock()
                call()
                if attempt:
                    seconds[form] = min(seconds[form], clock() - started)
    print(f"\n{name}, batch {len(x)}, threads {threads}: plain {seconds[PLAIN] * 1e3:.0f} ms")
    for form, own in seconds.items():
        print(f"{form:34s} {own / seconds[PLAIN]:6.2f}")


def peak(name: str, tiny: bool, form: str) -> float:
    """Most resident memory that building and running added to a process that has loaded everything, in MB."""
    set_threads(1)
    shipped = simulator.load("digits-unet")
    image, when = torch.zeros(1, *shipped.sample_shape), torch.zeros(1, dtype=torch.long)
    QuantizedModel(shipped, Scheme.parse("w8a8"), ranges_of(shipped, image, when))(image, when)
    if importlib.util.find_spec("diffusers"):
        Unet((32, 32), 8)  # loads it
    CLEAR.write_text("5")  # forget the highest mark so far
    before = resident("VmRSS")
    model, x, timestep = build(name, tiny)
    with torch.no_grad():
        call: Callable[[], Any] = lambda: model.module(x, timestep)  # noqa: E731
        if form != "plain":
            network = QuantizedModel(model, Scheme.parse("w8a8"), ranges_of(model, x, timestep))
            recorded = next(iter(measured_forms(model, network, len(x)).values()))
            call = recorded if form == "recorded" else lambda: network(x, timestep)
        for _ in range(2):
            call()
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """A memory figure of this process in MB. ru_maxrss would not do: it starts with the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1e3


def measure_peaks(name: str, tiny: bool) -> None:
    command = [sys.executable, __file__, "--models", name, *["--tiny"] * tiny, "--peak"]
    plain, *others = (
        float(subprocess.run([*command, form], check=True, capture_output=True, text=True).stdout.split()[-1])
        for form in PEAKS
    )
    for form, own in zip(PEAKS[1:], others, strict=True):
        what = f"peak memory, {form}"
        print(f"{what:34s} {own / plain:6.2f}  ({own:.0f} of {plain:.0f} MB, weights included)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tiny", action="store_true", help="small networks, two rounds: only checks that it runs")
    parser.add_argument("--peak", choices=PEAKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if importlib.util.find_spec("diffusers") is None:
        print("diffusers is not installed: without its UNet")
        options.models = [name for name in options.models if not name.startswith("unet")]
    if options.peak:
        print(peak(options.models[0], options.tiny, options.peak))
        return
    set_threads(options.threads)
    print(f"cpu {environment()['cpu']}, kernel path {paths.PATH}, torch {torch.__version__}")
    for name in options.models:
        measure(name, options.threads, 2 if options.tiny else options.rounds, options.tiny)
        if CLEAR.exists():  # Linux
            measure_peaks(name, options.tiny)


if __name__ == "__main__":
    main()
