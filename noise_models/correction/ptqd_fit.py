"""Fitting PTQD (He et al., NeurIPS 2023) from the moments of a calibration run."""

from __future__ import annotations

import numpy as np
import xarray as xr

from noise_models.absorption.rule import VARIANTS
from noise_models.correction.fitting import calibration_config
from noise_models.correction.ptqd import PTQD
from noise_models.decomposition.split import (
    channel_bias,
    residual_variance,
    slope,
    split,
    split_samples,
    variance_left,
)
from samplers.errors import BadInput
from samplers.validation import require_choice


def fit_ptqd(dataset: xr.Dataset, variant: str = "paper", absorb: bool = True, *, signed: bool = False) -> PTQD:
    """Fit the correction from a run's injected noise, with Delta = quantized epsilon - epsilon at the same x_t.

    Both variants: k = slope of Delta on epsilon, least squares with an intercept over all elements; k < 0 counts as 0
    unless ``signed``, which is ours: a quantized network that shrinks epsilon has k < 0, whose noise the rule leaves.
    Dividing by 1 + k then amplifies the residual: the error falls only if k^2 var(epsilon) + bias^2 exceeds
    sigma_q^2 (1 / (1 + k)^2 - 1), while the slope, and with it the drift of x_t, is always restored.

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
        signed: keep a negative slope.

    Raises:
        BadInput: the dataset is not such a run, its epsilon does not vary, its noise is not finite, a kept slope is -1
            or below, or ``released`` without moments per sample.
    """
    require_choice("variant", variant, VARIANTS)
    config = calibration_config(dataset)
    pooled, channels = (sums.total() for sums in split(dataset, "epsilon_injected"))
    k = slope(pooled)
    if np.isnan(k).any():
        raise BadInput(
            "epsilon must be finite and vary over the elements of every step",
            got=f"no slope at step {int(np.isnan(k).argmax())}",
            fix="check the model, and that the run did not diverge",
        )
    if not signed:
        k = np.maximum(k, 0.0)
    if variant == "paper":
        return PTQD(k, channel_bias(channels, k), residual_variance(channels, k), variant, absorb, config, signed)
    deviation = np.sqrt(variance_left(split_samples(dataset), k)).mean(0)
    return PTQD(k, channels.mean_e, deviation**2, variant, absorb, config, signed)
