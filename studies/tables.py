"""Short tables: what a job found, and what was done at each site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from noise_models.inference.labelled import channel_dims
from noise_models.metrics import sqnr_db


def summary_rows(runs: Sequence[xr.Dataset]) -> list[dict[str, Any]]:
    """One row per run: SQNR in dB of epsilon (median over steps, and last step) and of the final sample.

    The final sample's SQNR is pooled, so one sample that leaves the calibrated range can rule it; its median over
    samples stands beside it, and the share of operand elements that were clipped on the run's own trajectory. Runs of
    latent models also have the SQNR of the decoded samples.
    """
    rows = []
    for run in runs:
        injected, accumulated = sqnr_db(run, "epsilon_injected"), sqnr_db(run, "epsilon_accumulated")
        final = sqnr_db(run, "state_accumulated").isel(step=-1)
        rows.append(
            {
                "scheme": run.scheme.item(),
                "correction": run.correction.item(),
                "sampler": run.sampler.item(),
                "eta": None if run.eta.isnull() else run.eta.item(),
                "epsilon_injected_median_db": float(injected.sqnr_db.median()),
                "epsilon_injected_last_db": float(injected.sqnr_db[-1]),
                "epsilon_accumulated_median_db": float(accumulated.sqnr_db.median()),
                "final_sample_db": float(final.sqnr_db),
                "final_sample_db_low": float(final.sqnr_db_low),
                "final_sample_db_high": float(final.sqnr_db_high),
                "final_sample_median_db": median_over_samples_db(run.state_sample_accumulated.isel(step=-1)),
                "clipped_share": _clipped_share(run),
                **_decoded(run),
            }
        )
    return rows


def _decoded(run: xr.Dataset) -> dict[str, float]:
    """SQNR in dB after decoding, nothing for models that need no decoding."""
    if "decoded_accumulated" not in run:
        return {}
    found = sqnr_db(run, "decoded_accumulated")
    return {
        "decoded_db": float(found.sqnr_db),
        "decoded_db_low": float(found.sqnr_db_low),
        "decoded_db_high": float(found.sqnr_db_high),
        "decoded_median_db": median_over_samples_db(run.decoded_sample_accumulated),
    }


def median_over_samples_db(moments: xr.DataArray) -> float:
    """Median over samples of their own SQNR, from moments (channel, sample, moment)."""

    def power(mean: str, square: str) -> np.ndarray:
        return (moments.sel(moment=square) + moments.sel(moment=mean) ** 2).sum(channel_dims(moments)).values

    return float(np.median(10 * np.log10(power("mean_y", "yy") / power("mean_e", "ee"))))


def _clipped_share(run: xr.Dataset) -> float:
    operands = run.site_operands.sum() * run.sizes["sample"] * run.sizes["step"]
    return float(run.site_clipped_accumulated.sum() / operands)


def site_rows(runs: Sequence[xr.Dataset]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: every site with its cost and, per scheme, weight and activation bits."""
    by_scheme = {run.scheme.item(): run for run in runs}
    first = next(iter(by_scheme.values()))
    rows = []
    for index, site in enumerate(first.site.values):
        bits = [f"{_bits(run, 'weight', index)}/{_bits(run, 'activation', index)}" for run in by_scheme.values()]
        rows.append([str(site), f"{int(first.site_macs[index]):,}", *bits])
    return ["site", "MACs per sample", *by_scheme], rows


def _bits(run: xr.Dataset, what: str, site: int) -> str:
    """Bits, or their range over the steps of a scheme whose rules name steps."""
    by_step = run.get(f"site_step_{what}_bits")
    values = run[f"site_{what}_bits"].values[site : site + 1] if by_step is None else by_step.values[:, site]
    low, high = int(values.min()), int(values.max())
    return "-" if not high else str(high) if low == high else f"{low}-{high}"
