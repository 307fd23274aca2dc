"""Signal to quantization noise ratio: the canonical definition, per step and per site, with intervals.

Canonical: sqnr_db = 10 log10(sum y^2 / sum e^2), a ratio of powers, the sums pooled over elements, channels and
samples. ``noise_models.conversions`` leads to every other definition. What y and e are (epsilon, x_{t-1}, a site's
output; injected or accumulated; after correction) is the recorded variable's own definition, repeated in the result.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from noise_models.inference.intervals import Interval, from_replicates, jackknife
from noise_models.inference.labelled import channel_dims, interval_variables, meaning, recorded, result_dataset
from noise_models.inference.pooling import Array, Pooled, block_sums, sum_without_each
from samplers.errors import BadInput
from simulator.moments import block_count

_DB = "dB"  # The interval is formed in dB: there the error of a ratio is nearly symmetric and free of its size.


def pooled_sqnr_db(pooled: Pooled) -> Array:
    """10 log10(sum y^2 / sum e^2): +inf without noise, -inf without signal, NaN without either."""
    with np.errstate(divide="ignore", invalid="ignore"):
        # A difference of logarithms: the ratio itself may leave the range of float64.
        db = 10 * (np.log10(pooled.power_y) - np.log10(pooled.power_e))
    return np.asarray(db)


def sqnr_db(dataset: xr.Dataset, variable: str = "epsilon_injected", *, confidence: float = 0.95) -> xr.Dataset:
    """The canonical SQNR of a recorded variable, pooled over samples and channels.

    Args:
        dataset: a run's dataset, or several along further dimensions.
        variable: moments per block, such as ``epsilon_injected``, ``state_accumulated``, ``site_injected`` or
            ``decoded_accumulated``.
        confidence: nominal coverage.

    Returns:
        ``sqnr_db`` with its standard error, ends and reason, over the dimensions of ``variable`` but channel, block and
        moment: (step,), (step, site), or none after decoding.

    Raises:
        BadInput: ``variable`` was not recorded.
    """
    moments, count = recorded(dataset, variable)
    sums = block_sums(moments, count, channel_dims(moments))
    interval = jackknife(pooled_sqnr_db, sums, confidence=confidence)
    data = interval_variables(
        "sqnr_db",
        interval,
        sums.dims,
        unit=_DB,
        long_name="SQNR",
        definition=f"10 log10(sum y^2 / sum e^2), pooled over elements, channels and samples; {meaning(variable)}",
        confidence=confidence,
        scale=_DB,
    )
    return result_dataset(dataset, variable, data)


def mean_ratio_sqnr_db(
    dataset: xr.Dataset, variable: str = "epsilon_sample_injected", *, confidence: float = 0.95
) -> xr.Dataset:
    """10 log10 of the mean over samples of each sample's own power ratio: NOT the canonical SQNR.

    A mean of ratios weighs samples of little noise most, and lies above the ratio of means where noise power varies
    between samples of equal signal power. Kept for comparison with work that reports it; one sample without noise makes
    it infinite.

    Args:
        dataset: a run's dataset.
        variable: moments per sample: ``epsilon_sample_injected``, ``epsilon_sample_accumulated``,
            ``state_sample_accumulated`` or ``decoded_sample_accumulated``.
        confidence: nominal coverage.

    Returns:
        ``mean_ratio_sqnr_db`` (step,), after decoding (), with its standard error, ends and reason.

    Raises:
        BadInput: ``variable`` was not recorded.
    """
    if variable not in dataset or not {"sample", "moment"} <= set(dataset[variable].dims):
        raise BadInput(
            "the mean of ratios needs moments per sample",
            got=repr(variable),
            fix="use epsilon_sample_injected or epsilon_sample_accumulated, whichever the run recorded",
        )
    moments = dataset[variable].rename(sample="block")
    # Samples are of equal size, so any equal counts pool their channels rightly.
    samples = block_sums(moments, xr.ones_like(moments.isel(moment=0, drop=True)), channel_dims(moments))
    interval = _mean_ratio(samples.each(), confidence)
    data = interval_variables(
        "mean_ratio_sqnr_db",
        interval,
        samples.dims,
        unit=_DB,
        long_name="SQNR as a mean of ratios",
        definition=f"10 log10(mean over samples of sum y^2 / sum e^2 of one sample); {meaning(variable)}",
        confidence=confidence,
        scale=_DB,
    )
    return result_dataset(dataset, variable, data)


def _mean_ratio(samples: Pooled, confidence: float) -> Interval:
    """10 log10 of the mean of the samples' ratios, its replicates the same blocks as everywhere (sample i mod 64)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = samples.power_y / samples.power_e
        block = np.arange(len(ratios)) % block_count(len(ratios))
        sizes = np.bincount(block).astype(np.float64)
        sums = np.zeros((len(sizes), *ratios.shape[1:]))
        np.add.at(sums, block, ratios)
        others = (len(ratios) - sizes).reshape(-1, *[1] * (ratios.ndim - 1))
        estimate = 10 * np.log10(ratios.mean(0))
        replicates = 10 * np.log10(sum_without_each(sums) / others)
    return from_replicates(estimate, replicates, sizes / sizes.sum(), confidence=confidence)
