"""Where in a transformer, and when, does the noise arise? Per-site SQNR of digits-dit in W8A8 and in W4A8.

Every linear layer, QK^T and P V runs in integers. The heat maps show each site's output against full precision on the
same x_t; the strip below shows what the three networks sample from the same noise when each is asked for the digits
0, 1, 2, ... in turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import xarray as xr
from torch import Tensor, nn

import simulator
from noise_models import sqnr_db
from samplers import DDIM
from simulator.models.conditioning import cyclic_labels
from studies.plots import style
from studies.plots.samples import samples_figure
from studies.plots.sites import sites_figure

SCHEMES = ("w8a8", "w4a8")
BATCH = 50  # a multiple of the ten labels, so that a sample's label does not depend on the batch


def main(argv: Sequence[str] | None = None) -> tuple[xr.Dataset, ...]:
    """Run both schemes, print what was found, draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the figures")
    parser.add_argument("--tiny", action="store_true", help="10 steps, 10 samples: for tests")
    options = parser.parse_args(argv)
    steps, samples, fitting = (10, 10, 50) if options.tiny else (50, 50, 250)

    simulator.set_threads(1)
    model = replace(simulator.load("digits-dit"), name="digits-dit-labelled", call=call_with_labels)
    sampler = DDIM(model.schedule, num_inference_steps=steps)
    ranges = simulator.calibrate_ranges(model, sampler, samples=fitting, batch_size=BATCH)
    networks = [simulator.QuantizedModel(model, simulator.Scheme.parse(scheme), ranges) for scheme in SCHEMES]
    arms = [simulator.Arm(network) for network in networks]
    runs = simulator.run_arms(arms, sampler, samples=samples, batch_size=BATCH)

    for run in runs:
        report(run)
    style.save(sites_figure(runs), options.out / "heat_map")
    style.save(samples_figure([("asked for 0, 1, ...", runs)]), options.out / "heat_map_samples")
    return runs


def call_with_labels(module: nn.Module, x: Tensor, timestep: Tensor) -> Tensor:
    """Ask for the labels 0 to 9 in turn."""
    return module(x, timestep, cyclic_labels(range(len(x)), 10))


def report(run: xr.Dataset) -> None:
    """Print the noisiest sites and the final samples' SQNR."""
    by_site = sqnr_db(run, "site_injected").sqnr_db.median("step")
    order = by_site.values.argsort()
    final = sqnr_db(run, "state_accumulated").sqnr_db[-1]
    print(f"{run.scheme.item()}: final samples {float(final):.1f} dB; sites, median over steps, noisiest first")
    for index in [*order[:4], order[-1]]:
        print(f"  {by_site.site.values[index]:32} {float(by_site[index]):6.1f} dB")


if __name__ == "__main__":
    main()
