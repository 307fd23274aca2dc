"""What a grid of predictions says: its records, its table, and how often each predictor was right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

TOLERANCE_DB = 1.0
"""A prediction is right within this."""

Record = dict[str, Any]


def prediction_records(cells: Sequence[xr.Dataset]) -> list[Record]:
    """One record per cell and scheme, as plain values: measured and predicted SQNR in dB, standard errors, samples."""
    return [
        {
            "sampler": cell.sampler.item(),
            "steps": cell.steps.item(),
            "scheme": str(scheme),
            "measured": float(cell.measured_sqnr_db[index]),
            "standard_error": float(cell.measured_sqnr_db_standard_error[index]),
            "samples": int(cell.measured_samples[index]),
            "predicted": {
                str(name): float(cell.predicted_sqnr_db[row, index]) for row, name in enumerate(cell.predictor.values)
            },
            "prediction_standard_error": float(cell.predicted_sqnr_db_standard_error[0, index]),
        }
        for cell in cells
        for index, scheme in enumerate(cell.scheme.values)
    ]


def prediction_rows(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Header and one row per record: measured with its standard error, then what each predictor is off by.

    The first predictor is the prediction, with its own standard error; a star marks where it misses.
    """
    rows = []
    for record in records:
        errors = [value - record["measured"] for value in record["predicted"].values()]
        first = f"{errors[0]:+.2f}{'' if abs(errors[0]) <= TOLERANCE_DB else ' *'}"
        rows.append(
            [
                record["sampler"], str(record["steps"]), record["scheme"], f"{record['measured']:.2f}",
                f"{record['standard_error']:.2f}", str(record["samples"]), first,
                f"{record['prediction_standard_error']:.2f}", *(f"{error:+.2f}" for error in errors[1:]),
            ]
        )  # fmt: skip
    first, *others = records[0]["predicted"]
    return ["sampler", "steps", "scheme", "measured", "s.e.", "samples", first, "its s.e.", *others], rows


def hits(records: Sequence[Record]) -> list[tuple[str, int, int]]:
    """(what, records within the tolerance, records): each predictor over all, the first one by sampler and by steps."""
    first, *_ = records[0]["predicted"]
    found = [(name, *_within(records, name)) for name in records[0]["predicted"]]
    for sampler in dict.fromkeys(record["sampler"] for record in records):
        own = [record for record in records if record["sampler"] == sampler]
        found.append((f"{first}, {sampler}", *_within(own, first)))
    for steps in sorted({record["steps"] for record in records}):
        own = [record for record in records if record["steps"] == steps]
        found.append((f"{first}, {steps} steps", *_within(own, first)))
    return found


def _within(records: Sequence[Record], predictor: str) -> tuple[int, int]:
    errors = [record["predicted"][predictor] - record["measured"] for record in records]
    return sum(abs(error) <= TOLERANCE_DB for error in errors), len(errors)
