"""Fitting PTQD (He et al., NeurIPS 2023) from the moments of a calibration run."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from noise_models.absorption import VARIANTS
from noise_models.correction import PTQD
from noise_models.decomposition import channel_bias, residual_variance, slope, split
from noise_models.pooling import Array, block_sums
from samplers.errors import BadInput
from samplers.validation import require_choice
from simulator.calibration.trajectory import PURPOSE

MIN_BLOCKS = 8
"""Fewest replicate blocks of a fit: below, the fit's own standard errors are uncertain by 1/sqrt(2 (B-1)) > 27 %."""


def fit_ptqd(dataset: xr.Dataset, variant: str = "paper", absorb: bool = True) -> PTQD:
    """Fit the correction from a run's injected noise, with Delta = quantized epsilon - epsilon at the same x_t.

    Both variants: k = slope of Delta on epsilon, least squares with an intercept over all elements; k < 0 counts as 0.

    - ``paper``: bias = per-channel mean of Delta - k epsilon; sigma_q^2 = variance of Delta - k epsilon about that
      mean, since the correction removes it.
    - ``released``, as the authors' code: bias = per-channel mean of Delta itself, which leaves an offset of
      -k / (1 + k) times the mean of epsilon; sigma_q = mean over samples of the standard deviation (population) of
      Delta - k epsilon over one sample.

    The default is the paper's, which removes the bias exactly and restores the one-step variance.

    Args:
        dataset: a run of purpose "calibrate", without a correction, with injected noise, 8 samples or more.
        variant: ``paper`` or ``released``.
        absorb: whether the correction lowers the update's noise.

    Raises:
        BadInput: the dataset is not such a run, its epsilon does not vary, or its noise is not finite.
    """
    require_choice("variant", variant, VARIANTS)
    config = _calibration_config(dataset)
    pooled, channels = (sums.total() for sums in split(dataset, "epsilon_injected"))
    k = slope(pooled)
    if np.isnan(k).any():
        raise BadInput(
            "epsilon must be finite and vary over the elements of every step",
            got=f"no slope at step {int(np.isnan(k).argmax())}",
            fix="check the model, and that the run did not diverge",
        )
    k = np.maximum(k, 0.0)
    if variant == "paper":
        return PTQD(k, channel_bias(channels, k), residual_variance(channels, k), variant, absorb, config)
    return PTQD(k, channels.mean_e, _mean_sample_deviation(dataset, k) ** 2, variant, absorb, config)


def _mean_sample_deviation(dataset: xr.Dataset, k: Array) -> Array:
    """Mean over samples of the standard deviation of Delta - k epsilon over all elements of the sample, (step,)."""
    moments = dataset["epsilon_sample_injected"].rename(sample="block")
    equal = xr.ones_like(moments.isel(moment=0, drop=True))  # channels are of equal size
    each = block_sums(moments, equal, ("channel",)).each()
    variance = each.central[0, 2] - 2 * k * each.covariance + k**2 * each.central[2, 0]
    return np.sqrt(np.where(variance < 0, 0.0, variance)).mean(0)  # below 0 by rounding only


def _calibration_config(dataset: xr.Dataset) -> dict[str, Any]:
    if "config" not in dataset.attrs or "epsilon_injected" not in dataset:
        raise BadInput(
            "a fit needs one run's dataset with injected noise",
            got=f"variables {', '.join(map(str, dataset))}",
            fix='run with kinds=("injected",) and pass that dataset',
        )
    config = json.loads(dataset.attrs["config"])
    if config["purpose"] != PURPOSE:
        raise BadInput(
            f"samples that fit a correction must have purpose {PURPOSE!r}",
            got=repr(config["purpose"]),
            fix=f"run with purpose={PURPOSE!r}, so that they are disjoint from those that evaluate it",
        )
    if config["correction"]["name"] != "none":
        raise BadInput(
            "a correction is fitted on a run without one",
            got=config["correction"]["name"],
            fix="run the quantized network as it is",
        )
    blocks = dataset.sizes["block"]
    if blocks < MIN_BLOCKS:
        raise BadInput(
            f"a fit needs at least {MIN_BLOCKS} replicate blocks, hence {MIN_BLOCKS} samples",
            got=f"{blocks}",
            fix="calibrate on more samples; the paper uses 1024",
        )
    return config
