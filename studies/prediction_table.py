"""What a grid of predictions says: its table, and how often each predictor was right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

TOLERANCE_DB = 1.0
"""A prediction is right within this."""


def prediction_rows(cells: Sequence[xr.Dataset]) -> tuple[list[str], list[list[str]]]:
    """Header and one row per cell and scheme: measured with its standard error, and every predictor's error."""
    predictors = [str(name) for name in cells[0].predictor.values]
    rows = []
    for cell in cells:
        for index, scheme in enumerate(cell.scheme.values):
            measured = float(cell.measured_sqnr_db[index])
            errors = cell.predicted_sqnr_db.values[:, index] - measured
            marked = f"{errors[0]:+.2f}{'' if abs(errors[0]) <= TOLERANCE_DB else ' *'}"
            rows.append(
                [
                    cell.sampler.item(), str(cell.steps.item()), str(scheme), f"{measured:.2f}",
                    f"{float(cell.measured_sqnr_db_standard_error[index]):.2f}",
                    str(int(cell.measured_samples[index])), marked, *(f"{error:+.2f}" for error in errors[1:]),
                ]
            )  # fmt: skip
    return ["sampler", "steps", "scheme", "measured", "s.e.", "samples", *predictors], rows


def hits(cells: Sequence[xr.Dataset]) -> list[str]:
    """Lines: cells within the tolerance, for each predictor in all and for the first one per sampler."""
    lines = []
    for index, predictor in enumerate(cells[0].predictor.values):
        good = _within(cells, index)
        lines.append(f"{predictor}: {good.sum()} of {good.size} within {TOLERANCE_DB:g} dB")
    for sampler in dict.fromkeys(cell.sampler.item() for cell in cells):
        good = _within([cell for cell in cells if cell.sampler.item() == sampler], 0)
        lines.append(f"  {cells[0].predictor.values[0]}, {sampler}: {good.sum()} of {good.size}")
    return lines


def _within(cells: Sequence[xr.Dataset], predictor: int) -> np.ndarray:
    errors = [cell.predicted_sqnr_db.values[predictor] - cell.measured_sqnr_db.values for cell in cells]
    return np.abs(np.concatenate(errors)) <= TOLERANCE_DB
