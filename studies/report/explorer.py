"""Every site at every step, as numbers that the page's script draws: a slider over steps, a choice of sites."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import xarray as xr

from studies.figures.sites import KINDS, site_map
from studies.report.markup import Html, element
from studies.sources.groups import Panel, arranged
from studies.sources.run import Run

MOST_NUMBERS = 400_000
"""Sites times steps times systems in one page; above, the heat maps have to do."""


def explorers(runs: Sequence[Run], prefix: str) -> list[Html]:
    """One per setting whose runs recorded their sites."""
    recorded = [run for run in runs if run.has("site_injected")]
    panels = arranged(recorded) if recorded else []
    return [
        _explorer(panel, f"{prefix}-explorer-{i}") for i, panel in enumerate(panels) if _size(panel) <= MOST_NUMBERS
    ]


def _size(panel: Panel) -> int:
    first = panel.groups[0].first.dataset()
    return int(first.sizes["site"] * first.sizes["step"]) * len(panel.groups) * len(KINDS)


def _explorer(panel: Panel, name: str) -> Html:
    first = panel.groups[0].first.dataset()
    systems = []
    for kind in KINDS:
        for group in panel.groups:
            if group.first.has(f"site_{kind}"):
                found = site_map(group, f"site_{kind}")
                if np.array_equal(found.site, first.site):
                    systems.append({"label": f"{group.label}, {kind}", "values": _rounded(found)})
    data = {
        "sites": [str(site) for site in first.site.values],
        "timesteps": [int(timestep) for timestep in first.timestep.values],
        "systems": systems,
    }
    return element(
        "section",
        element("h4", f"SQNR site by site: {panel.title}"),
        element("p", "The page's script draws this; without it, the heat maps say the same.", class_="without-script"),
        element("script", script_json(data), type="application/json"),
        class_="explorer", id=name,
    )  # fmt: skip


def script_json(data: object) -> Html:
    """JSON inside a script element: nothing in it ends the element or opens a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Html(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _rounded(values: xr.DataArray) -> list[list[float | None]]:
    """(step, site), two decimals, None where there is no finite value."""
    rows = values.transpose("step", "site").to_numpy()
    return [[round(float(one), 2) if np.isfinite(one) else None for one in row] for row in rows]
