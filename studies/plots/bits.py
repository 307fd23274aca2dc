"""Bits per step: what each policy gives every step, and with groups every group of sites."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from studies.plots import style
from studies.plots.sites import label_steps

COLORS = "viridis"
"""Sequential, also to colour-blind eyes and in grey print; bright is many bits."""

ROW = 0.16
"""Inches of one row, which its label needs."""


def plot_bits(dataset: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Activation bits as colour: a row per policy, steps in sampling order from left to right.

    A policy that treats its groups of sites apart has a row for each. The axes' one collection is the mappable of a
    colour bar.

    Args:
        dataset: of ``compare_policies``: ``activation_bits`` over (policy, step, group).
        ax: axes to draw on.
    """
    ax = plt.gca() if ax is None else ax
    labels, values = _rows(dataset)
    widths = np.unique(values)
    edges = np.concatenate([[widths[0] - 0.5], (widths[1:] + widths[:-1]) / 2, [widths[-1] + 0.5]])
    norm = BoundaryNorm(edges, plt.get_cmap(COLORS).N)
    ax.pcolormesh(
        np.arange(values.shape[1]), np.arange(len(labels)), values, cmap=COLORS, norm=norm, edgecolors="white",
        linewidth=0.3, antialiased=True,
    )  # fmt: skip
    ax.set_yticks(np.arange(len(labels)), labels, fontsize=style.font(6))
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.tick_params(length=0, pad=2)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return label_steps(dataset, ax=ax)


def bits_figure(dataset: xr.Dataset) -> Figure:
    """Bits per step of every policy, with a bar of the widths that occur."""
    labels, values = _rows(dataset)
    height = max(ROW * len(labels), 0.9)  # the bar needs its label
    with style.paper():
        figure, ax = plt.subplots(figsize=style.size(height + 0.55), layout="constrained")
        plot_bits(dataset, ax=ax)
        bar = figure.colorbar(
            ax.collections[0], ax=ax, pad=0.01, aspect=max(height / 0.15, 4), ticks=np.unique(values), spacing="uniform"
        )
        bar.ax.minorticks_off()
        bar.ax.tick_params(length=0)
        bar.outline.set_visible(False)  # type: ignore[operator]  # matplotlib's stub
        bar.set_label("activation bits")
        return figure


def _rows(dataset: xr.Dataset) -> tuple[list[str], np.ndarray]:
    """Labels and bits (row, step)."""
    bits = dataset["activation_bits"].transpose("policy", "group", "step")
    labels, rows = [], []
    for policy, own in zip(map(str, bits.policy.values), bits.to_numpy(), strict=True):
        alike = (own == own[0]).all()
        labels += [policy] if alike else [f"{policy}, {group}" for group in bits.group.values]
        rows += [own[0]] if alike else list(own)
    return labels, np.array(rows)
