"""Do the residuals of one sample depend on each other across steps? Absorption and sums of variances assume not."""

from __future__ import annotations

import numpy as np
import xarray as xr

from noise_models.assumptions.kept import kept_noise
from noise_models.inference.intervals import ARCTANH
from noise_models.inference.labelled import interval_variables, result_dataset
from noise_models.inference.pooling import Array
from noise_models.inference.replication import interval_of_sums
from noise_models.inference.verdicts import EQUIVALENCE, equivalence, verdict_variable

MARGIN = 0.1
"""Correlation of two steps that counts as none."""


def check_step_independence(
    dataset: xr.Dataset, kind: str = "injected", *, part: str = "residual", confidence: float = 0.95,
    margin: float = MARGIN,
) -> xr.Dataset:  # fmt: skip
    """Correlation of a sample's noise at one step with its noise at another, pixel by pixel, over kept samples.

    rho(s, s') = sum r_s r_s' / sqrt(sum r_s^2 sum r_s'^2), sums over samples, channels and pixels; intervals over
    samples, formed on the arctanh scale.

    Args:
        dataset: one run's, with two samples or more kept whole.
        kind: ``injected`` or ``accumulated``.
        part: ``residual``, ``varying`` or ``noise``.
        confidence: nominal coverage.
        margin: largest correlation that counts as none.

    Returns:
        ``step_correlation`` (step, other_step), with standard error, ends and reason, its diagonal 1 without an
        interval, and ``step_correlation_verdict``: ``holds`` (independent), ``violated`` or ``inconclusive``.

    Raises:
        BadInput: too few samples kept, an unknown choice, or no residual.
    """
    noise = kept_noise(dataset, kind, part, what="the correlation of steps")
    by_sample = np.moveaxis(noise, 1, 0).reshape(noise.shape[1], noise.shape[0], -1)
    products = by_sample @ by_sample.transpose(0, 2, 1)

    def correlation(products: Array) -> Array:
        squares = np.diagonal(products, axis1=-2, axis2=-1)
        return np.clip(products / np.sqrt(squares[..., None] * squares[..., None, :]), -1, 1)

    interval = interval_of_sums(correlation, products, scale=ARCTANH, confidence=confidence)
    dims = ("step", "other_step")
    data = interval_variables(
        "step_correlation", interval, dims, unit="1", long_name=f"correlation of the {part} of two steps",
        definition="sum r_s r_s' / sqrt(sum r_s^2 sum r_s'^2) over pixels of kept samples", confidence=confidence,
        scale="arctanh",
    )  # fmt: skip
    data["step_correlation_verdict"] = verdict_variable(
        dims, equivalence(interval.low, interval.high, margin), EQUIVALENCE, "whether two steps are uncorrelated",
        margin=margin,
    )  # fmt: skip
    return result_dataset(dataset, f"noise_kept_{kind}", data)
