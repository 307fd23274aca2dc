"""What corrections change, paired by seed: injected noise of every step, and the final sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from noise_models.metrics import sqnr_db
from samplers.errors import BadInput
from studies.figures.needs import plain, with_variables
from studies.plots.curve import plot_curve
from studies.plots.panels import View, headline, over_timesteps, panels, shared_legend
from studies.seeds import over_seeds
from studies.sources.curves import Curve
from studies.sources.groups import name_of, varying
from studies.sources.run import SETTING, SYSTEM, Run, Scalar

OTHERS = tuple(name for name in (*SETTING, *SYSTEM) if name != "correction")
KINDS = {"epsilon_injected": "$\\epsilon$, injected", "state_accumulated": "$x_{t-1}$, accumulated"}


def correction_views(runs: Sequence[Run]) -> Iterator[View]:
    """A view per system that ran with and without: change of SQNR in dB, above 0 where a correction helps."""
    usable = with_variables(runs, "corrections", list(KINDS), "runs with both kinds of noise", "run it as a study")
    found: dict[tuple[object, ...], list[Run]] = {}
    for run in usable:
        found.setdefault(tuple(run.fields.get(name) for name in OTHERS), []).append(run)
    pairs = [own for own in found.values() if any(map(plain, own)) and not all(map(plain, own))]
    if not pairs:
        raise BadInput(
            "the figure corrections needs the same runs with and without a correction", got="one of them",
            fix='run the study with correction = ["none", "ptqd"] under [grid], say',
        )  # fmt: skip
    told = varying([own[0] for own in pairs], OTHERS)
    for own in pairs:
        yield View(name_of(own[0], told), _figure(own))


def _figure(members: Sequence[Run]) -> Figure:
    without = {run.fields.get("seed"): run for run in members if plain(run)}
    names = dict.fromkeys(str(run.fields["correction"]) for run in members if not plain(run))
    with panels(len(KINDS)) as (figure, axes):
        for ax, (variable, label) in zip(axes, KINDS.items(), strict=True):
            for index, name in enumerate(names):
                corrected = [r for r in members if r.fields["correction"] == name and r.fields.get("seed") in without]
                if corrected:
                    curve = _change(corrected, without, variable)
                    plot_curve(curve, index=index, label=name.upper(), ax=ax)
            ax.axhline(0, color="0.3", lw=0.6, zorder=0)
            ax.set_ylabel("change of SQNR (dB)")
            ax.set_title(label)
        over_timesteps(axes)
        shared_legend(figure, axes)
        title = name_of(members[0], ("model", "scheme", "target", "sampler", "eta", "num_inference_steps"))
        headline(figure, f"{title}: paired by seed")
        return figure


def _change(corrected: Sequence[Run], without: Mapping[Scalar, Run], variable: str) -> Curve:
    def values(run: Run) -> np.ndarray:
        return sqnr_db(run.dataset(), variable).sqnr_db.to_numpy()

    with np.errstate(invalid="ignore"):
        changes = [values(run) - values(without[run.fields.get("seed")]) for run in corrected]
    timestep = corrected[0].dataset()["timestep"].to_numpy()
    return Curve(timestep, *over_seeds(changes), len(changes))
