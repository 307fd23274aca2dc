"""The same scheme in fake-quant and in integers: where, when and by how much do they disagree?

Fake-quant rounds weights and activations to their codes and multiplies real values in float32. It knows no register and
no requantizer. Both networks see the same full-precision x_t, with the same codes of the weights and the same scales.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import simulator
from samplers import DDIM
from simulator.disagreement import disagreement
from simulator.instrument.rungs import Rung
from studies.plots import style
from studies.plots.sites import label_steps, plot_by_site

SCHEMES = {"w8a8": "exact sums", "w8a8-acc19": "19-bit register", "w8a8o8@onnxruntime": "8-bit outputs"}


def main(argv: Sequence[str] | None = None) -> dict[str, xr.Dataset]:
    """Compare, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the figure")
    parser.add_argument("--tiny", action="store_true", help="3 steps, 2 samples: for tests")
    options = parser.parse_args(argv)
    steps, samples, fitting = (3, 2, 8) if options.tiny else (50, 16, 256)

    simulator.set_threads(1)
    model = simulator.load("digits-unet")
    sampler = DDIM(model.schedule, num_inference_steps=steps)
    ranges = simulator.calibrate_ranges(model, sampler, samples=fitting, outputs=True)
    found = {}
    print(f"{'':20}  {'difference over noise, dB':^26}  {'codes that differ':>17}")
    print(f"{'scheme':20}  {'least':>8} {'median':>8} {'greatest':>8}")
    for text in SCHEMES:
        scheme = simulator.Scheme.parse(text)
        hardware = simulator.QuantizedModel(model, scheme, ranges)
        fake = simulator.QuantizedModel(model, scheme, ranges, rung=Rung.FAKE_QUANT)
        found[text] = disagreement(hardware, fake, sampler, samples=samples)
        db, flips = relative_db(found[text]), found[text].flipped.sum() / found[text].operands.sum()
        least, middle, greatest = (float(each) for each in (db.min(), db.median(), db.max()))
        print(f"{text:20}  {least:8.1f} {middle:8.1f} {greatest:8.1f}  {100 * float(flips):15.4f} %")
    with style.paper():
        style.save(draw(found), options.out / "fake_quant_against_hardware")
    return found


def relative_db(found: xr.Dataset) -> xr.DataArray:
    """Power of the difference over that of the quantization noise, in dB per step and site."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(found.difference_power / found.noise_power)


def draw(found: dict[str, xr.Dataset]) -> plt.Figure:
    """A heat map per scheme, white where the two agree to the last bit, and the share of codes that differ."""
    figure, (*maps, last) = plt.subplots(
        1, 4, figsize=(style.WIDTH_ICLR, 3.3), sharey=True, layout="constrained", width_ratios=(1, 1, 1, 0.9)
    )
    for ax, color, marker, (text, each) in zip(maps, style.COLORS, "osv", found.items(), strict=False):
        plot_by_site(relative_db(each), ax=ax, cmap="viridis_r", vmin=-120, vmax=0)
        label_steps(each, ax=ax, count=3).set_title(f"{text}\n{SCHEMES[text]}", fontsize=6)
        share = 100 * each.flipped.sum("step") / each.operands.sum("step")
        last.plot(share.where(share > 0), range(len(share)), marker, color=color, ms=2.5, label=text)
    for ax in (*maps[1:], last):
        ax.tick_params(axis="y", length=0)
    last.set(xscale="log", xlabel="codes that\ndiffer (%)", xlim=(1e-5, 200), xticks=(1e-4, 1e-1, 1e2))
    last.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=5.5, handlelength=0.8, borderpad=0)
    bar = figure.colorbar(maps[0].collections[0], ax=maps, location="bottom", aspect=50, pad=0.02, extend="max")
    bar.set_label("power of the difference over that of the quantization noise (dB)")
    return figure


if __name__ == "__main__":
    main()
