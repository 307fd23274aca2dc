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
from studies.plots.snr import plot_snr

WIDTHS = tuple(range(11, 21))
DRAWN = (20, 15, 14, 13)


def main(argv: Sequence[str] | None = None) -> xr.Dataset:
    """Run the widths, print what was found, draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the figure")
    parser.add_argument("--tiny", action="store_true", help="3 steps, 2 samples: for tests")
    options = parser.parse_args(argv)
    steps, samples, fitting = (3, 2, 8) if options.tiny else (50, 16, 256)

    simulator.set_threads(1)
    model = simulator.load("digits-unet")
    sampler = DDIM(model.schedule, num_inference_steps=steps)
    ranges = simulator.calibrate_ranges(model, sampler, samples=fitting, outputs=True)
    machine = Scheme.load(Path(__file__).with_suffix(".toml"))
    schemes = [Scheme.parse("w4g64a8"), *(with_register(machine, bits) for bits in WIDTHS)]
    arms = [simulator.Arm(simulator.QuantizedModel(model, scheme, ranges)) for scheme in schemes]
    exact, *narrow = simulator.run_arms(arms, sampler, samples=samples, kinds=("injected",))

    proved = {str(site): found.accumulator_bits for site, found in certificates(arms[-1].quantized).items()}
    lost = np.array([run.site_overflowed_injected.sum("step") for run in narrow])
    range_from_one = np.arange(1, len(WIDTHS) + 1)[:, None]
    outputs = exact.site_count.sum("block").values * steps
    found = xr.Dataset(
        {
            "median_sqnr_db": ("bits", [float(sqnr_db(run).sqnr_db.median()) for run in narrow]),
            "saturated": (("bits", "site"), lost / outputs),
            "saturated_outputs": ("bits", lost.sum(axis=1)),
            "enough_here": ("site", WIDTHS[0] + np.where(lost > 0, range_from_one, 0).max(axis=0)),
            "enough_always": ("site", [proved[site] for site in exact.site.values]),
        },
        {"bits": list(WIDTHS), "site": exact.site.values},
    )  # fmt: skip
    report(found, float(sqnr_db(exact).sqnr_db.median()))
    with style.paper():
        style.save(
            draw(found, [exact, *(narrow[WIDTHS.index(bits)] for bits in DRAWN)]), options.out / "narrow_machine"
        )
    return found


def with_register(machine: Scheme, bits: int) -> Scheme:
    """The same machine with a register of another width."""
    accumulator = replace(machine.settings.accumulator, bits=bits)
    return replace(machine, settings=machine.settings | Settings(accumulator=accumulator), name=f"{bits}-bit register")


def report(found: xr.Dataset, exact_db: float) -> None:
    """Print the tables."""
    print(f"{'register':>8}  {'SQNR of epsilon':>15}  {'outputs saturated':>17}\n{'exact':>8}  {exact_db:12.2f} dB")
    for bits in reversed(WIDTHS):
        row = found.sel(bits=bits)
        print(f"{bits:8}  {float(row.median_sqnr_db):12.2f} dB  {int(row.saturated_outputs):17,}")
    for name, claim in (("enough_here", "in these samples"), ("enough_always", "for any input, by certificate")):
        widest = found.isel(site=int(found[name].values.argmax()))
        print(f"{int(widest[name])} bits: nothing saturates {claim} (widest at {widest.site.item()})")


def draw(found: xr.Dataset, runs: Sequence[xr.Dataset]) -> plt.Figure:
    """SQNR per step beside what saturated at each site and width; bars mark the widths that are proved."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(style.WIDTH_ICLR, 3.2), layout="constrained", width_ratios=(1.5, 1)
    )
    plot_snr(runs, ax=left)
    left.lines[1].set_linestyle((0, (2, 2)))  # it lies on the first
    for line, label in zip(left.lines, ("", "w4g64a8 with exact sums, and 20 bits (dashed)", *DRAWN[1:]), strict=True):
        place = (line.get_xdata()[0], line.get_ydata()[0])
        text = f"{label} bits" if isinstance(label, int) else label
        left.annotate(text, place, (0, 5), textcoords="offset points", fontsize=6.5, color=line.get_color())
    left.invert_xaxis()
    left.set(xlabel="timestep $t$", ylabel="SQNR of $\\epsilon$, injected (dB)")

    share, sites = 100 * found.saturated.T, np.arange(found.sizes["site"])
    mesh = right.pcolormesh(found.bits, sites, share.where(share > 0), cmap="viridis_r", norm=LogNorm(1e-3, 100))
    right.plot(found.enough_always, sites, "|", color=style.COLORS[1], ms=5, mew=1.4, label="enough for any input")
    right.axvline(20, color="0.5", lw=0.8, ls=":", zorder=0, label="the machine")
    right.set_yticks(sites, found.site.values, fontsize=5)
    right.set(xlabel="bits of the register", xticks=range(11, 23, 2), ylim=(len(sites) - 0.5, -0.5))
    right.grid(False)
    right.legend(loc="lower right", bbox_to_anchor=(1.02, 1.0), ncols=2, columnspacing=1.0, handlelength=1.0)
    figure.colorbar(mesh, ax=right, label="outputs that saturated (%)", pad=0.02)
    return figure


if __name__ == "__main__":
    main()
