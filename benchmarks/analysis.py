"""Time to analyse a record of 50 steps x 100 sites x 64 blocks, divided by reading the record's own memory once.

The record is made up; decompositions do not depend on what is in it. Each analysis runs in turn, round after round, and
the fastest round counts, in seconds of one core's time: the target is "under 2 s" for the first three, whatever else
the machine does.

    OMP_NUM_THREADS=1 python benchmarks/analysis.py [--tiny]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import xarray as xr

from noise_models import amplitude_ratio_from_db, decompose, noise_to_signal_from_db, power_ratio_from_db, sqnr_db
from noise_models.assumptions.normality import residual_shape
from simulator.moments import BLOCKS, moment_names, row_moments
from simulator.record import central_moments
from simulator.variables import BY_NAME

ELEMENTS = 16
"""Elements behind a moment: more change no time."""


def made_up_run(steps: int, sites: int) -> xr.Dataset:
    """A run's dataset with injected and accumulated noise of sites and of epsilon in three channels."""
    generator = np.random.default_rng(0)
    y = generator.standard_normal((steps * sites * BLOCKS, ELEMENTS))
    rows = row_moments(y, 1.1 * y + 0.05 * generator.standard_normal(y.shape))
    moments = central_moments(rows).reshape(steps, sites, BLOCKS, -1)
    arrays = {f"site_{kind}": moments for kind in ("injected", "accumulated")}
    arrays |= {f"epsilon_{kind}": moments[:, :3] for kind in ("injected", "accumulated")}
    arrays["site_count"] = np.full((sites, BLOCKS), ELEMENTS)
    arrays["epsilon_count"] = np.full((3, BLOCKS), ELEMENTS)
    return xr.Dataset({n: (BY_NAME[n].dims, array) for n, array in arrays.items()}, {"moment": list(moment_names())})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a small record and one round: only checks that it runs")
    options = parser.parse_args()
    run = made_up_run(3, 4) if options.tiny else made_up_run(50, 100)
    variables = [name for name in run if {"block", "moment"} <= set(run[name].dims)]
    decibels = sqnr_db(run, "site_injected").sqnr_db

    def convert() -> None:
        for convert in (amplitude_ratio_from_db, power_ratio_from_db, noise_to_signal_from_db):
            for _ in variables:
                convert(decibels)

    def read() -> None:
        for variable in variables:
            run[variable].values.sum()

    analyses: dict[str, Callable[[], object]] = {
        "decomposition of everything": lambda: [decompose(run, name) for name in variables],
        "SQNR of everything": lambda: [sqnr_db(run, name) for name in variables],
        "conversions of it": convert,
        "decomposition of sites, bootstrap": lambda: decompose(run, "site_injected", method="bootstrap"),
        "skewness and kurtosis of sites": lambda: residual_shape(run, "site_injected"),
    }
    seconds = dict.fromkeys((*analyses, "reading"), float("inf"))
    for _ in range(1 if options.tiny else 5):
        for name, analysis in {**analyses, "reading": read}.items():
            started = time.process_time()
            analysis()
            seconds[name] = min(seconds[name], time.process_time() - started)
    size = sum(run[name].nbytes for name in variables)
    print(f"{run.sizes['step']} steps x {run.sizes['site']} sites x {BLOCKS} blocks, {size / 2**20:.0f} MiB of moments")
    for name in analyses:
        print(f"{name:35} {seconds[name]:7.3f} s {seconds[name] / seconds['reading']:9.1f} readings")
    first = sum(seconds[name] for name in list(analyses)[:3])
    print(f"{'the first three together':35} {first:7.3f} s")


if __name__ == "__main__":
    main()
