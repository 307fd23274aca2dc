"""What a run must be for a correction to be fitted on it."""

from __future__ import annotations

import json
from typing import Any

import xarray as xr

from samplers.errors import BadInput
from simulator.calibration.trajectory import PURPOSE

MIN_BLOCKS = 8
"""Fewest replicate blocks of a fit: below, the fit's own standard errors are uncertain by 1/sqrt(2 (B-1)) > 27 %."""


def calibration_config(dataset: xr.Dataset, variable: str = "epsilon_injected") -> dict[str, Any]:
    """Configuration of a calibration run that holds ``variable``.

    Raises:
        BadInput: another purpose than "calibrate", a run with a correction, without ``variable``, or of fewer than
            ``MIN_BLOCKS`` samples.
    """
    if "config" not in dataset.attrs or variable not in dataset:
        kind = variable.rpartition("_")[2]
        raise BadInput(
            f"a fit needs one run's dataset with {kind} noise",
            got=f"variables {', '.join(map(str, dataset))}",
            fix=f'run with "{kind}" among kinds and pass that dataset',
        )
    config = json.loads(dataset.attrs["config"])
    if config["purpose"] != PURPOSE:
        raise BadInput(
            f"samples of a fit must have purpose {PURPOSE!r}",
            got=repr(config["purpose"]),
            fix=f"run with purpose={PURPOSE!r}, so that they are disjoint from those that evaluate it",
        )
    if config["correction"]["name"] != "none":
        raise BadInput(
            "a fit must be a run without a correction",
            got=config["correction"]["name"],
            fix="run the quantized network as it is",
        )
    blocks = dataset.sizes["block"]
    if blocks < MIN_BLOCKS:
        raise BadInput(
            f"a fit needs at least {MIN_BLOCKS} replicate blocks, hence {MIN_BLOCKS} samples",
            got=f"{blocks}",
            fix="calibrate on more samples (the paper on 1024); samples_needed tells how many for a wanted precision",
        )
    return config
