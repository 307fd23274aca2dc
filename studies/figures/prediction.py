"""Predicted against measured SQNR of the final sample, from what a run stores: injected noise and coefficients."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from noise_models.inference.labelled import recorded
from noise_models.inference.pooling import block_sums
from noise_models.propagation.transfer import naive_final_power
from studies.figures.needs import plain, require
from studies.plots import style
from studies.plots.curve import escaped
from studies.plots.panels import View, headline, panels, shared_legend
from studies.sampler_names import sampler_of
from studies.seeds import over_seeds
from studies.sources.groups import Group, arranged
from studies.sources.run import Run

PREDICTORS = {"sum": "injected noise of all steps", "last-step": "injected noise of the last step"}


def prediction_views(runs: Sequence[Run]) -> Iterator[View]:
    """A panel per predictor, a marker per setting, a colour per system.

    The sampler's coefficients carry each step's injected noise to the end; how the network responds to an error of its
    input is not stored with a run, and left out: ``qnoise predict`` measures it.
    """
    found = arranged(
        require(
            runs, "prediction", "runs without a correction, with both kinds of noise, on a sampler that does not clip",
            "run the study with correction = none, or use qnoise predict",
            lambda run: plain(run) and run.has("epsilon_injected", "state_accumulated") and not _clips(run),
        )
    )  # fmt: skip
    with panels(len(PREDICTORS), height=2.3, share_y=True) as (figure, axes):
        for ax, (kind, label) in zip(axes, PREDICTORS.items(), strict=True):
            ends = []
            for mark, panel in enumerate(found):
                for index, group in enumerate(panel.groups):
                    ends += _plot(group, kind, ax, index, mark)
            finite = [end for end in ends if np.isfinite(end)] or [0.0]
            line = np.array([min(finite) - 2, max(finite) + 2])
            ax.plot(line, line, color="0.4", lw=0.6, zorder=0)
            ax.set_title(label)
            ax.set_xlabel("measured SQNR (dB)")
            ax.set_ylabel("predicted SQNR (dB)")
        for index, group in enumerate(found[0].groups):
            color = style.COLORS[index % len(style.COLORS)]
            axes[0].plot([], [], color=color, marker="o", ls="", ms=style.font(3), label=escaped(group.label))
        for mark, panel in enumerate(found if len(found) > 1 else []):
            marker = style.MARKERS[mark % len(style.MARKERS)]
            axes[0].plot([], [], color="0.3", marker=marker, ls="", ms=style.font(3), label=escaped(panel.title))
        shared_legend(figure, axes)
        headline(figure, "final sample; the network's response to errors is left out")
    yield View("", figure)


def _plot(group: Group, kind: str, ax: Axes, index: int, mark: int) -> list[float]:
    pairs = [_powers(run.dataset(), kind) for run in group.runs]
    measured, predicted = (over_seeds([pair[i] for pair in pairs]) for i in (0, 1))
    arms = [np.nan_to_num([[float(v - low)], [float(high - v)]]) for v, low, high in (measured, predicted)]
    ax.errorbar(
        float(measured[0]), float(predicted[0]), xerr=arms[0], yerr=arms[1], ls="", ms=style.font(3), elinewidth=0.6,
        marker=style.MARKERS[mark % len(style.MARKERS)], color=style.COLORS[index % len(style.COLORS)],
    )  # fmt: skip
    return [float(measured[0]), float(predicted[0])]


def _powers(run: xr.Dataset, kind: str) -> tuple[float, float]:
    """Measured and predicted SQNR of the final sample, dB."""
    sampler = sampler_of(_sampler_config(run))
    signal, noise = (power[-1] for power in _mean_squares(run, "state_accumulated"))
    predicted = naive_final_power(sampler, _mean_squares(run, "epsilon_injected")[1], kind)
    with np.errstate(divide="ignore"):
        return tuple(float(10 * (np.log10(signal) - np.log10(power))) for power in (noise, predicted))  # type: ignore[return-value]


def _mean_squares(run: xr.Dataset, variable: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of y^2 and of e^2 at every step."""
    total = block_sums(*recorded(run, variable), ("channel",)).total()
    return total.mean_y**2 + total.variance_y, total.mean_e**2 + total.variance_e


def _sampler_config(run: xr.Dataset) -> dict[str, Any]:
    return dict(json.loads(run.attrs["config"])["sampler"])


def _clips(run: Run) -> bool:
    return "clipping" in _sampler_config(run.dataset())
