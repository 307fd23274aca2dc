"""Bits per step of every system."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from studies.figures.needs import with_variables
from studies.plots.bits import bits_figure
from studies.plots.panels import View
from studies.sources.groups import Panel, arranged
from studies.sources.run import Run


def bits_views(runs: Sequence[Run]) -> Iterator[View]:
    """A view per setting: the activation bits that most multiply-accumulates of each step have."""
    found = arranged(
        with_variables(
            runs, "bits", ("site_macs",), "runs that record their sites' bits", "run the study with sites = true"
        )
    )
    for panel in found:
        yield View(panel.title if len(found) > 1 else "", bits_figure(_table(panel)))


def _table(panel: Panel) -> xr.Dataset:
    first = panel.groups[0].first.dataset()
    bits = [_commonest(group.first.dataset()) for group in panel.groups]
    names = [group.label for group in panel.groups]
    data = {
        "activation_bits": (("policy", "step", "group"), np.array(bits)[:, :, None]),
        "timestep": ("step", first["timestep"].to_numpy()),
    }
    return xr.Dataset(data, coords={"policy": names, "group": ["all"]})


def _commonest(run: xr.Dataset) -> list[int]:
    """Of each step, the bits with the most multiply-accumulates."""
    steps, macs = run.sizes["step"], run["site_macs"].to_numpy()
    by_step = run.get("site_step_activation_bits")
    own = np.tile(run["site_activation_bits"].to_numpy(), (steps, 1)) if by_step is None else by_step.to_numpy()
    widths = np.unique(own)
    return [int(widths[np.argmax([macs[row == width].sum() for width in widths])]) for row in own]
