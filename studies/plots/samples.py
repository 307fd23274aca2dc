"""Final samples side by side: full precision above each quantized run, on the same noise."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.plots import style

SHOWN = 16

LABEL, IMAGE = 1.1, 0.275
"""Inches of a row's label, and of an image."""


def plot_samples(images: np.ndarray, label: str, *, ax: Axes | None = None) -> Axes:
    """A row of images (sample, channel, row, column) in [-1, 1], the first channel, white on black reversed."""
    ax = plt.gca() if ax is None else ax
    strip = np.concatenate([np.pad(image[0], 1, constant_values=-1.0) for image in images[:SHOWN]], axis=1)
    ax.imshow(strip, cmap="gray_r", vmin=-1, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    ax.text(-1.0, strip.shape[0] / 2, label, ha="right", va="center")
    return ax


def shown_images(run: xr.Dataset, which: str) -> np.ndarray:
    """Final samples of a run as images, "reference" or "quantized": the decoded ones of a latent model."""
    name = f"decoded_{which}" if f"decoded_{which}" in run else f"sample_{which}"
    return run[name].values


def samples_figure(parts: Sequence[tuple[str, Sequence[xr.Dataset]]]) -> Figure:
    """For each part (title, runs): full precision, then every run."""
    return grid_figure(sample_rows(parts))


def sample_rows(parts: Sequence[tuple[str, Sequence[xr.Dataset]]]) -> list[tuple[str, np.ndarray]]:
    """Label and images of every row."""
    rows = []
    for title, runs in parts:
        rows.append((f"full precision\n({title})", shown_images(runs[0], "reference")))
        for run in runs:
            correction = "" if run.correction.item() == "none" else f" + {run.correction.item().upper()}"
            rows.append((run.scheme.item().upper() + correction, shown_images(run, "quantized")))
    return rows


def grid_figure(rows: Sequence[tuple[str, np.ndarray]]) -> Figure:
    """A row of images for each (label, images), as many as the column is wide enough for."""
    width, scale = style.size(0.0)[0], style.font(1.0)
    count = max(1, min(SHOWN, round((width / scale - LABEL) / IMAGE)))
    with style.paper():
        figure, axes = plt.subplots(
            len(rows), 1, figsize=style.size(0.31 * len(rows) + 0.1), squeeze=False,
            gridspec_kw={"left": LABEL * scale / width, "right": 0.995, "top": 0.995, "bottom": 0.005, "hspace": 0.08},
        )  # fmt: skip
        for ax, (label, images) in zip(axes[:, 0], rows, strict=True):
            plot_samples(images[:count], label, ax=ax)
        return figure
