"""Cost against noise: bit operations of each policy and the SQNR of its final samples."""

from __future__ import annotations

import json
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.plots import style

MARKERS = ("s", "D", "^", "v", "P", "X")


def plot_pareto(dataset: xr.Dataset, *, variable: str = "final_sqnr_db", ax: Axes | None = None) -> Axes:
    """Final SQNR with its interval over bit operations; uniform widths joined by a line, which policies should top.

    Policies of one rule share colour and marker.

    Args:
        dataset: of ``compare_policies``.
        variable: over (policy,); its ``_low`` and ``_high`` are drawn where they are there.
        ax: axes to draw on.
    """
    ax = plt.gca() if ax is None else ax
    families = _families(dataset)
    for rank, (family, names) in enumerate(families.items()):
        own = dataset.sel(policy=names).sortby("total_bops")
        cost, values = own["total_bops"].to_numpy() / 1e9, own[variable].to_numpy()
        uniform = family == "uniform"
        color = "0.35" if uniform else style.COLORS[(rank - 1) % len(style.COLORS)]
        line = "-" if uniform else ":" if len(names) > 1 else ""
        marker = "o" if uniform else MARKERS[(rank - 1) % len(MARKERS)]
        if f"{variable}_low" in own:
            ends = np.abs(np.stack([own[f"{variable}_low"], own[f"{variable}_high"]]) - values)
            # ends that are not defined are not drawn
            ax.errorbar(cost, values, yerr=np.nan_to_num(ends), fmt="none", ecolor=color, elinewidth=0.6, alpha=0.5)
        ax.plot(
            cost, values, color=color, marker=marker, ms=4, lw=0.9 if uniform else 0.6, ls=line,
            label=family, mfc=color if uniform else "white",
        )  # fmt: skip
        if uniform:
            for x, y, name in zip(cost, values, own.policy.values, strict=True):
                ax.annotate(str(name), (x, y), (4, -8), textcoords="offset points", fontsize=style.font(6), color=color)
    ax.margins(0.14, 0.12)  # room for the names
    ax.set_xlabel("bit operations per sample ($10^9$)")
    ax.set_ylabel("SQNR of the final sample (dB)")
    return ax


def front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Those that none costs as little as and tops, cheapest first; costs that differ by rounding are one."""
    found: list[int] = []
    for index in sorted(range(len(costs)), key=lambda i: (float(f"{costs[i]:.4g}"), -values[i])):
        if not found or values[index] > values[found[-1]]:
            found.append(index)
    return found


def pareto_figure(dataset: xr.Dataset) -> Figure:
    """Pooled SQNR with intervals, and beside it the median over samples, which one bad sample does not rule."""
    with style.paper():
        figure, axes = plt.subplots(1, 2, figsize=style.size(2.6), sharex=True, layout="constrained")
        plot_pareto(dataset, ax=axes[0])
        plot_pareto(dataset, variable="final_median_db", ax=axes[1])
        axes[0].set_title("pooled over samples, 95 % intervals")
        axes[1].set_title("median over samples")
        axes[1].set_ylabel("")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return figure


def _families(dataset: xr.Dataset) -> dict[str, list[str]]:
    """Names of policies by the rule that made them, uniform widths first."""
    rules = json.loads(dataset.attrs["rules"])
    found: dict[str, list[str]] = {"uniform": []}
    for name in map(str, dataset.policy.values):
        found.setdefault(_family(rules[name]), []).append(name)
    return {family: names for family, names in found.items() if names}


def _family(rule: dict[str, object]) -> str:
    kind = rule.get("rule", "by hand")
    if kind == "ptqd":
        return f"PTQD, SNR$^F$ as {rule['reading']}"
    if kind == "sigmoid":
        return f"sigmoid, {rule['rounding']}"
    return f"{rule['method']} under a budget" if kind == "budget" else str(kind)
