"""The figures of ``qnoise plot``: what each is, what it needs, and which function draws it. Imports nothing heavy."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from samplers.errors import BadInput

if TYPE_CHECKING:
    from studies.plots.panels import View
    from studies.sources.run import Run


@dataclass(frozen=True)
class Entry:
    """A figure by its name.

    Args:
        title: what it shows.
        needs: what runs it can be drawn of; empty where any will do.
        place: module and function of ``studies.figures`` that draws it.
        wide: whether it has panels side by side, and spans both columns where a page has two.
    """

    title: str
    needs: str
    place: str
    wide: bool = True

    def views(self, runs: Sequence[Run]) -> Iterator[View]:
        """The figure, in as many views as runs call for.

        Raises:
            BadInput: the runs do not have what it needs.
        """
        module, function = self.place.split(":")
        draw: Callable[[Sequence[Run]], Iterator[View]] = getattr(
            importlib.import_module(f"studies.figures.{module}"), function
        )
        return draw(runs)


FIGURES = {
    "snr": Entry("SQNR of epsilon at each step, injected and accumulated", "", "snr:snr_views"),
    "sites": Entry("SQNR of every site at each step", "sites = true", "sites:sites_views"),
    "noise-output": Entry(
        "noise against output: slope k and correlation, and kept elements", "keep > 1 for elements",
        "noise_output:noise_output_views",
    ),
    "residuals": Entry("is the residual normal: histograms, Q-Q plots, shape", "keep > 1", "residuals:residual_views"),
    "feasibility": Entry(
        "residual variance that each step can absorb, and what was measured",
        "a sampler that adds noise (eta > 0, ddpm), correction = none", "feasibility:feasibility_views",
    ),
    "ranges": Entry("activations over time: mean and spread of sites' outputs", "sites = true", "ranges:range_views"),
    "bits": Entry("activation bits of each step", "sites = true", "bits:bits_views"),
    "pareto": Entry("bit operations, or bytes of weights, against the final SQNR", "runs of a study",
                    "pareto:pareto_views", wide=False),
    "prediction": Entry(
        "final SQNR predicted from injected noise and coefficients, against the measured one",
        "correction = none, no clipping", "prediction:prediction_views",
    ),
    "targets": Entry("targets against full precision and one another", "two targets or more", "targets:target_views"),
    "corrections": Entry(
        "change of SQNR by corrections, paired by seed", "the same runs with and without",
        "corrections:correction_views",
    ),
    "samples": Entry("final samples on the same noise", "", "samples:sample_views", wide=False),
}  # fmt: skip


def find_figure(name: str) -> Entry:
    """A figure by its name.

    Raises:
        BadInput: there is none; the nearest one is in the message.
    """
    if name not in FIGURES:
        near = difflib.get_close_matches(name.lower().replace("_", "-"), FIGURES, n=1, cutoff=0.4)
        raise BadInput(
            "there is no such figure", got=repr(name), fix=f"did you mean {near[0]}?" if near else ", ".join(FIGURES)
        )
    return FIGURES[name]
