"""The scoreboard's rows: means over seeds with intervals, gains over minmax, ranks that overlapping rows share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import t as student

from studies.scoreboard.board import BASELINE
from studies.scoreboard.measuring import VARIABLES

Record = dict[str, Any]

HIGHER_IS_BETTER = "final_sqnr_db"
"""What rows are ranked by."""

CONFIDENCE = 0.95


def join(cells: Sequence[xr.Dataset]) -> xr.Dataset:
    """All cells along recipe, bits, subject and seed; NaN where a recipe was refused."""
    dims = ("recipe", "bits", "subject", "seed")
    index = [cell.drop_attrs().expand_dims(dims) for cell in cells]
    whole = xr.combine_by_coords(index, combine_attrs="drop")
    assert isinstance(whole, xr.Dataset)
    order = {dim: list(dict.fromkeys(cell[dim].item() for cell in cells)) for dim in dims}
    return whole.sel(order)


def over_seeds(values: np.ndarray) -> tuple[float, float, float]:
    """Mean over seeds with Student's interval: it holds the variance between seeds. NaN where a seed has no value."""
    count = len(values)
    mean = float(values.mean())
    if count < 2:
        return mean, float("nan"), float("nan")
    arm = float(student.ppf(0.5 + CONFIDENCE / 2, count - 1)) * float(values.std(ddof=1)) / np.sqrt(count)
    return mean, mean - arm, mean + arm


def board_records(board: xr.Dataset) -> list[Record]:
    """One record per subject, bits and recipe: every variable and its paired difference from ``minmax``, with ends.

    A rank counts the recipes whose final SQNR is better beyond doubt: whose paired difference has an interval wholly
    above 0. Recipes that overlap so share a rank.
    """
    records = []
    for subject in board.subject.values:
        for bits in board.bits.values:
            at = board.sel(subject=subject, bits=bits)
            for recipe in board.recipe.values:
                own = at.sel(recipe=recipe)
                record: Record = {"subject": str(subject), "bits": str(bits), "recipe": str(recipe)}
                for name in VARIABLES:
                    record |= _ends(name, own[name].values)
                    record |= _ends(f"{name}_gain", (own[name] - at.sel(recipe=BASELINE)[name]).values)
                record["rank"] = _rank(at, str(recipe))
                records.append(record)
    return records


def _ends(name: str, values: np.ndarray) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), over_seeds(values), strict=True))


def _rank(at: xr.Dataset, recipe: str) -> int | None:
    own = at.sel(recipe=recipe)[HIGHER_IS_BETTER].values
    if not np.isfinite(own).all():
        return None
    better = 0
    for other in at.recipe.values:
        lead = at.sel(recipe=other)[HIGHER_IS_BETTER].values - own
        better += bool(np.isfinite(lead).all() and over_seeds(lead)[1] > 0)
    return 1 + better


HEADER = [
    "recipe", "rank", "final SQNR, dB", "- minmax", "injected, dB", "KID x 1000", "FD", "precision", "recall", "BOPs",
    "bytes", "seconds",
]  # fmt: skip


def board_rows(records: Sequence[Record], seconds: dict[tuple[str, str, str], float]) -> list[list[str]]:
    """Cells of one subject's and width's table, best first; ``seconds`` by (subject, bits, recipe)."""

    def order(record: Record) -> tuple[bool, int, float]:
        return record["rank"] is None, record["rank"] or 0, -record["final_sqnr_db"]

    return [
        [
            record["recipe"],
            "-" if record["rank"] is None else str(record["rank"]),
            _interval(record, "final_sqnr_db"),
            "" if record["recipe"] == BASELINE else _interval(record, "final_sqnr_db_gain", "+"),
            _interval(record, "injected_sqnr_db"),
            _interval(record, "kid_full_precision", scale=1000.0),
            _interval(record, "frechet_full_precision"),
            *(_number(record[f"{name}_full_precision"]) for name in ("precision", "recall")),
            *(_number(record[name]) for name in ("bops", "weight_bytes")),
            _number(seconds.get((record["subject"], record["bits"], record["recipe"]), float("nan"))),
        ]
        for record in sorted(records, key=order)
    ]


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3g}"


def _interval(record: Record, name: str, sign: str = "", *, scale: float = 1.0) -> str:
    value, low, high = (scale * record[f"{name}{end}"] for end in ("", "_low", "_high"))
    if np.isnan(value):
        return "-"
    return f"{value:{sign}.2f} ({low:{sign}.2f}..{high:{sign}.2f})"
