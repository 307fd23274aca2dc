"""Runs as rows of plain values: for CSV, Parquet and tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import xarray as xr

from noise_models.metrics import sqnr_db


def run_row(run: xr.Dataset) -> dict[str, Any]:
    """One row: the run's key and spec, what it costs, and its SQNR in dB.

    ``final_sqnr_db`` is of the last sample, pooled over samples, with the 95 % interval of the block jackknife;
    ``injected_sqnr_db`` is of epsilon at full precision's x_t, the mean over steps of dB values.
    """
    final = sqnr_db(run, "state_accumulated").isel(step=-1)
    return {
        **_named(run),
        "bops": float(run.bops),
        "weight_bytes": float(run.weight_bytes),
        "final_sqnr_db": float(final.sqnr_db),
        "final_sqnr_db_low": float(final.sqnr_db_low),
        "final_sqnr_db_high": float(final.sqnr_db_high),
        "injected_sqnr_db": float(sqnr_db(run, "epsilon_injected").sqnr_db.mean()),
    }


def step_rows(run: xr.Dataset) -> Iterator[dict[str, Any]]:
    """A row per step: SQNR in dB of epsilon, injected and accumulated, and of x, with intervals."""
    named = _named(run)
    found = {name: sqnr_db(run, variable) for name, variable in _BY_STEP.items()}
    for step in range(run.sizes["step"]):
        row = {**named, "step": step, "timestep": int(run.timestep[step])}
        for name, values in found.items():
            at = values.isel(step=step)
            row |= {
                f"{name}_sqnr_db": float(at.sqnr_db),
                f"{name}_sqnr_db_low": float(at.sqnr_db_low),
                f"{name}_sqnr_db_high": float(at.sqnr_db_high),
            }
        yield row


_BY_STEP = {"injected": "epsilon_injected", "accumulated": "epsilon_accumulated", "state": "state_accumulated"}


def _named(run: xr.Dataset) -> dict[str, Any]:
    return {"key": run.attrs["study_key"], **json.loads(run.attrs["study_spec"])}
