"""Targets side by side: their noise against full precision, and how far their final samples are from one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from noise_models.metrics import sqnr_db
from samplers.errors import BadInput
from studies.figures.needs import with_variables
from studies.plots.curve import plot_curve
from studies.plots.matrix import plot_matrix
from studies.plots.panels import View, headline, over_timesteps, panels, shared_legend
from studies.sources.curves import curve_of, intervals_of
from studies.sources.groups import Group, arranged, name_of, varying
from studies.sources.run import SETTING, SYSTEM, Run

OTHERS = tuple(name for name in (*SETTING, *SYSTEM) if name != "target")
FULL = "full precision"


def target_views(runs: Sequence[Run]) -> Iterator[View]:
    """A view per system that ran on several targets: SQNR of each step, and between final samples of shared seeds."""
    usable = with_variables(
        runs, "targets", ("epsilon_accumulated", "sample_quantized"), "runs with accumulated noise", "run it as a study"
    )
    found = [members for members in _alike(usable) if len({run.fields["target"] for run in members}) > 1]
    if not found:
        raise BadInput(
            "the figure targets needs runs that differ in their target only", got="one target of each system",
            fix='run the study with scheme = ["w8a8", "w8a8@cutlass-int8"] under [grid], say',
        )  # fmt: skip
    told = varying([members[0] for members in found], OTHERS)
    for members in found:
        yield View(name_of(members[0], told), _figure(members))


def _alike(runs: Sequence[Run]) -> list[list[Run]]:
    found: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        found.setdefault(tuple(run.fields.get(name) for name in OTHERS), []).append(run)
    return list(found.values())


def _figure(members: Sequence[Run]) -> Figure:
    groups = [
        Group(str(panel_group.first.fields["target"]), panel_group.runs)
        for panel in arranged(members)
        for panel_group in panel.groups
    ]
    with panels(2, height=2.4) as (figure, (lines, cells)):
        for index, group in enumerate(groups):
            curve = curve_of(group, partial(sqnr_db, variable="epsilon_accumulated"), "sqnr_db")
            plot_curve(curve, index=index, label=group.label, ax=lines)
        lines.set_ylabel("SQNR of $\\epsilon$, accumulated (dB)")
        lines.set_title(intervals_of(groups))
        over_timesteps([lines])
        names = [FULL, *(group.label for group in groups)]
        plot_matrix(between(groups), names[1:], names[:-1], ax=cells)
        cells.set_title("SQNR between final samples (dB)")
        shared_legend(figure, [lines])
        title = name_of(members[0], ("model", "scheme", "sampler", "eta", "num_inference_steps"))
        headline(figure, title)
        return figure


def between(groups: Sequence[Group]) -> NDArray[np.float64]:
    """SQNR in dB between the stored final samples of targets, (target, full precision and the targets but the last).

    10 log10 of the power of full precision's samples over that of the difference, pooled over the first samples of the
    seeds that both have; NaN above the diagonal, +inf where samples are equal.
    """
    seeds = [{run.fields.get("seed"): run.dataset() for run in group.runs} for group in groups]
    found = np.full((len(groups), len(groups)), np.nan)
    for row, own in enumerate(seeds):
        found[row, 0] = _ratio_db([(one, one["sample_quantized"] - one["sample_reference"]) for one in own.values()])
        for column in range(row):
            shared = [seed for seed in own if seed in seeds[column]]
            pairs = [(own[s], own[s]["sample_quantized"] - seeds[column][s]["sample_quantized"]) for s in shared]
            found[row, column + 1] = _ratio_db(pairs)
    return found


def _ratio_db(pairs: Sequence[tuple[xr.Dataset, xr.DataArray]]) -> float:
    if not pairs:
        return float("nan")
    signal = sum(float(np.square(run["sample_reference"].to_numpy(), dtype=np.float64).sum()) for run, _ in pairs)
    noise = sum(float(np.square(difference.to_numpy(), dtype=np.float64).sum()) for _, difference in pairs)
    with np.errstate(divide="ignore"):
        return float(10 * (np.log10(signal) - np.log10(noise)))
