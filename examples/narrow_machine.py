"""A narrow machine through 50 denoising steps: 4-bit weights in groups of 64, a 20-bit register, 16-bit outputs.

``narrow_machine.toml`` states the machine. How much noise does it add to that of w4g64a8, which sums exactly and keeps
float32 outputs? Then its register is narrowed bit by bit: where does it saturate first, which width was enough for
these samples, and which is enough for any input, by certificate?
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.colors import LogNorm

import simulator
from noise_models import sqnr_db
from samplers import DDIM
from simulator.instrument.certificates import certificates
from simulator.instrument.scheme import Scheme, Settings
from studies.plots import style
from studies.plots.sites import plot_by_site
from studies.plots.snr import plot_snr

WIDTHS = np.arange(11, 21)
DRAWN = {20: "exact sums; 20 bits (dashed)", 15: "15 bits", 14: "14 bits", 13: "13 bits"}


def main(argv: Sequence[str] | None = None) -> xr.Dataset:
    """Run the widths, print what was found, draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the figure")
    parser.add_argument("--tiny", action="store_true", help="3 steps, 2 samples: for tests")
    options = parser.parse_args(argv)
    steps, samples, fitting = (3, 2, 8) if options.tiny else (50, 16, 256)

    simulator.set_threads(1)
    model = simulator.load("digits-unet")
    sampler = DDIM(model.schedule, num_inference_steps=steps)
    ranges = simulator.calibrate_ranges(model, sampler, samples=fitting, outputs=True)
    machine = Scheme.load(Path(__file__).with_suffix(".toml"))
    schemes = [Scheme.parse("w4g64a8"), *(with_register(machine, int(bits)) for bits in WIDTHS)]
    networks = [simulator.QuantizedModel(model, scheme, ranges) for scheme in schemes]
    runs = simulator.run_arms([simulator.Arm(n) for n in networks], sampler, samples=samples, kinds=("injected",))

    lost = np.array([run.site_overflowed_injected.sum("step") for run in runs[1:]])
    proved = {str(site): found.accumulator_bits for site, found in certificates(networks[-1]).items()}
    found = xr.Dataset(
        {
            "median_sqnr_db": ("bits", [float(sqnr_db(run).sqnr_db.median()) for run in runs[1:]]),
            "saturated": (("bits", "site"), lost),
            "saturated_share": (("bits", "site"), lost / (runs[0].site_count.sum("block").values * steps)),
            "enough_here": ("site", np.where(lost > 0, WIDTHS[:, None] + 1, WIDTHS[0]).max(axis=0)),
            "enough_always": ("site", [proved[site] for site in runs[0].site.values]),
        },
        {"bits": WIDTHS, "site": runs[0].site.values},
    )
    print(
        f"register  SQNR of epsilon  outputs saturated\n   exact  {float(sqnr_db(runs[0]).sqnr_db.median()):12.2f} dB"
    )
    for bits in WIDTHS[::-1]:
        row = found.sel(bits=bits)
        print(f"{bits:8}  {float(row.median_sqnr_db):12.2f} dB  {int(row.saturated.sum()):17,}")
    for name, claim in (("enough_here", "in these samples"), ("enough_always", "for any input, by certificate")):
        widest = found.isel(site=int(found[name].values.argmax()))
        print(f"{int(widest[name])} bits: nothing saturates {claim} (widest at {widest.site.item()})")
    with style.paper():
        drawn = [runs[0], *(runs[1 + int(np.searchsorted(WIDTHS, bits))] for bits in DRAWN)]
        style.save(draw(found, drawn), options.out / "narrow_machine")
    return found


def with_register(machine: Scheme, bits: int) -> Scheme:
    """The same machine with a register of another width."""
    accumulator = replace(machine.settings.accumulator, bits=bits)
    return replace(machine, settings=machine.settings | Settings(accumulator=accumulator), name=f"{bits}-bit register")


def draw(found: xr.Dataset, runs: Sequence[xr.Dataset]) -> plt.Figure:
    """SQNR per step beside what saturated at each site and width; bars mark the widths that are proved."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH_ICLR, 3.2), layout="constrained")
    plot_snr(runs, ax=left)
    left.lines[1].set_linestyle((0, (2, 2)))  # it lies on the first
    for line, label in zip(left.lines[1:], DRAWN.values(), strict=True):
        start = (line.get_xdata()[0], line.get_ydata()[0])
        left.annotate(label, start, (0, 9), textcoords="offset points", fontsize=6.5, color=line.get_color())
    left.invert_xaxis()
    left.set(xlabel="timestep $t$", ylabel="SQNR of $\\epsilon$, injected (dB)")

    share = 100 * found.saturated_share
    plot_by_site(share.where(share > 0), ax=right, cmap="viridis_r", norm=LogNorm(1e-3, 100))
    rows = range(found.sizes["site"])
    right.plot(found.enough_always, rows, "|", color=style.COLORS[1], ms=5, mew=1.4, label="enough for any input")
    right.axvline(20, color="0.5", lw=0.8, ls=":", zorder=0, label="the machine")
    right.set(xlabel="bits of the register", xticks=range(11, 23, 2))
    right.legend(loc="lower right", bbox_to_anchor=(1.02, 1.0), ncols=2, columnspacing=1.0, handlelength=1.0)
    figure.colorbar(right.collections[0], ax=right, label="outputs that saturated (%)", pad=0.02)
    return figure


if __name__ == "__main__":
    main()
