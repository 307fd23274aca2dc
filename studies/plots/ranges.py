"""How a site's outputs move over the steps: mean, and two standard deviations to either side."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from noise_models.inference.labelled import recorded
from noise_models.inference.pooling import block_sums
from studies.plots import style

REACH = 2.0
"""Standard deviations to either side of the mean."""


def site_moments(run: xr.Dataset) -> xr.Dataset:
    """Mean and standard deviation of full precision's outputs over (step, site), from the recorded moments.

    Raises:
        BadInput: no sites were recorded.
    """
    sums = block_sums(*recorded(run, "site_injected"))
    total = sums.total()
    data = {"mean": (sums.dims, total.mean_y), "deviation": (sums.dims, np.sqrt(total.variance_y))}
    return xr.Dataset(data, coords={"site": run["site"]}).assign(timestep=run["timestep"])


def plot_ranges(moments: xr.Dataset, site: str, *, ax: Axes | None = None) -> Axes:
    """Mean of one site's outputs over the timestep, and a band of two standard deviations.

    Args:
        moments: of :func:`site_moments`.
        site: its name.
        ax: axes to draw on.
    """
    ax = plt.gca() if ax is None else ax
    own = moments.sel(site=site)
    ax.plot(own.timestep, own["mean"], color=style.COLORS[0], label="mean")
    low, high = own["mean"] - REACH * own.deviation, own["mean"] + REACH * own.deviation
    ax.fill_between(own.timestep, low, high, color=style.COLORS[0], alpha=0.2, lw=0, label="two standard deviations")
    return ax
