"""Which residual noise each step can absorb: the bound of each setting's sampler, and what was measured."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from noise_models.absorption.absorbable import feasibility
from noise_models.decomposition.split import decompose
from samplers.ddim import DDIM
from samplers.method import Method
from studies.figures.needs import plain, require
from studies.plots.curve import plot_curve
from studies.plots.panels import View, entitle, over_timesteps, panels, shared_legend
from studies.sampler_names import sampler_of
from studies.sources.curves import curve_of
from studies.sources.groups import arranged
from studies.sources.run import Run

STEPS = (10, 20, 50, 100, 250)
"""Numbers of DDIM's steps whose bounds are drawn beside the runs' own."""


def feasibility_views(runs: Sequence[Run]) -> Iterator[View]:
    """A panel per setting whose sampler adds noise."""
    found = arranged(
        require(
            runs, "feasibility", "runs without a correction on a sampler that adds noise of its own",
            "run the study with eta = 1 and correction = none",
            lambda run: plain(run) and run.has("epsilon_injected") and _adds_noise(run),
        )
    )  # fmt: skip
    with panels(len(found), height=2.2) as (figure, axes):
        for ax, panel in zip(axes, found, strict=True):
            own = _sampler(panel.groups[0].first)
            for sampler in _relatives(own):
                _plot_bound(sampler, ax, "0.75", 0.7, "bound, other numbers of steps")
            _plot_bound(own, ax, "black", 1.4, "bound, own steps")
            for index, group in enumerate(panel.groups):
                plot_curve(curve_of(group, _reduced, "reduced"), index=index, label=group.label, ax=ax)
            ax.set_yscale("log")
            entitle(ax, panel.title)
            ax.set_ylabel("residual variance $\\sigma_q^2 / (1+k)^2$")
        over_timesteps(axes)
        shared_legend(figure, axes)
    yield View("", figure)


def _adds_noise(run: Run) -> bool:
    return bool((run.dataset()["c"].to_numpy() > 0).any())


def _sampler(run: Run) -> Method:
    return sampler_of(json.loads(run.dataset().attrs["config"])["sampler"])


def _relatives(sampler: Method) -> list[Method]:
    """DDIM's of other numbers of steps."""
    if not isinstance(sampler, DDIM):
        return []
    return [
        dataclasses.replace(sampler, num_inference_steps=steps)
        for steps in STEPS
        if steps != sampler.num_inference_steps and steps <= sampler.schedule.num_train_timesteps
    ]


def _plot_bound(sampler: Method, ax: Axes, color: str, width: float, label: str) -> None:
    bound = feasibility(sampler)
    values = bound.absorbable_variance.to_numpy()
    # a step without fresh noise absorbs nothing, and a logarithm shows no 0
    ax.plot(bound.timestep, np.where(values > 0, values, np.nan), color=color, lw=width, label=label)


def _reduced(run: xr.Dataset) -> xr.Dataset:
    """What a step would have to absorb: the residual variance over (1 + k)^2, a negative k counting as 0."""
    found = decompose(run, "epsilon_injected")
    size = (1 + np.maximum(found.slope, 0)) ** 2
    return xr.Dataset({f"reduced{end}": found[f"residual_variance{end}"] / size for end in ("", "_low", "_high")})
