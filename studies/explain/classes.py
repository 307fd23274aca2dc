"""The class of every sample of a run, from the file of its conditions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from samplers.errors import BadInput
from simulator.models.conditioning import Conditioning
from simulator.models.digest import tensors_digest

LEAST = 2
"""Samples of a class, and classes, below which none are compared."""


def classes(run: xr.Dataset, conditioning: Path | None) -> NDArray[np.int64] | None:
    """Label of every sample, (sample,), or None where there are no classes to compare.

    Labels are the one condition that is a whole number per sample; sample i has row i modulo the number of rows.

    Args:
        run: one run's dataset.
        conditioning: file of its conditions.

    Returns:
        None without a file, without labels in it, or where fewer than two classes have two samples or more, or some
        class has a single one.

    Raises:
        BadInput: the run was made with other conditions.
    """
    if conditioning is None:
        return None
    given = Conditioning.from_file(conditioning).given
    recorded = json.loads(run.attrs["config"]).get("conditions", {})
    for name, tensor in given.items():
        if (own := tensors_digest({name: tensor})) != recorded.get(name):
            raise BadInput(
                "classes come from the conditions that the run was made with",
                got=f"{name} of digest {own[:8]}, and {str(recorded.get(name))[:8]} in the run",
                fix="name the file of the run's own conditions",
            )
    labels = [tensor for tensor in given.values() if tensor.ndim == 1 and tensor.dtype == torch.int64]
    if len(labels) != 1:
        return None
    rows = labels[0].numpy()
    groups = rows[np.arange(run.sizes["sample"]) % len(rows)]
    counts = np.unique(groups, return_counts=True)[1]
    return groups if len(counts) >= LEAST and counts.min() >= LEAST else None
