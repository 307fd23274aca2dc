"""Is the residual normal: histograms and Q-Q plots of kept samples, and its shape at every step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from studies.figures.needs import with_variables
from studies.plots.panels import View
from studies.plots.residuals import normality_figure, residuals_figure
from studies.sources.groups import arranged
from studies.sources.run import Run


def residual_views(runs: Sequence[Run]) -> Iterator[View]:
    """Two views per system, of the least seed: residual quantiles, and skewness and kurtosis over the steps."""
    kept = with_variables(
        runs, "residuals", ("epsilon_kept", "noise_kept_injected"), "runs that keep samples whole",
        "run the study with keep = 64, say",
    )  # fmt: skip
    found = arranged(kept)
    for panel in found:
        for group in panel.groups:
            name = ", ".join([panel.title] * (len(found) > 1) + [group.label])
            yield View(f"{name}, quantiles", residuals_figure(group.first.dataset()))
            yield View(f"{name}, shape", normality_figure(group.first.dataset()))
