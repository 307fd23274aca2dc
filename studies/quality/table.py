"""What ``qnoise quality`` prints: distances with floors and intervals, and what schemes change."""

from __future__ import annotations

import math
from typing import Any

import xarray as xr

from studies.quality.measurement import FULL_PRECISION, HELD_OUT, REAL
from studies.quality.reasons import Reason

WORSE, BETTER, INCONCLUSIVE = "worse", "better", "inconclusive"


def distance_rows(dataset: xr.Dataset, reference: str) -> list[dict[str, Any]]:
    """One row per set that was compared with ``reference``, floors first."""
    names = dataset.sample_set.values.tolist()
    floors = [HELD_OUT] if reference == REAL and HELD_OUT in names else []
    floors += [FULL_PRECISION] if reference == FULL_PRECISION else []
    rows = []
    for name in [*floors, *(name for name in names if name not in (*floors, HELD_OUT))]:
        cell = dataset.sel(sample_set=name, reference=reference)
        row = {
            "sample_set": name,
            "reference": reference,
            "floor": name in floors,
            "samples": int(cell.frechet_samples),
            "frechet": float(cell.frechet),
            "frechet_reason": Reason(int(cell.frechet_reason)).name.lower(),
            "frechet_at_floor": float(cell.frechet_at_floor),
            **_interval(cell, "frechet_infinite"),
            "frechet_infinite_reason": Reason(int(cell.frechet_infinite_reason)).name.lower(),
            "spatial_frechet": float(cell.spatial_frechet),
            **_interval(cell, "spatial_frechet_infinite"),
            **_interval(cell, "kid"),
            "precision": float(cell.precision),
            "recall": float(cell.recall),
            "manifold_samples": int(cell.manifold_samples),
            **_interval(cell, "inception_score"),
        }
        rows.append(row)
    return rows


def difference_rows(dataset: xr.Dataset) -> list[dict[str, Any]]:
    """One row per scheme and reference: what it changes on shared noise, and the verdict of KID's interval alone."""
    rows = []
    for name in dataset.sample_set.values.tolist():
        for reference in dataset.reference.values.tolist() if name not in (FULL_PRECISION, HELD_OUT) else ():
            cell = dataset.sel(sample_set=name, reference=reference)
            rows.append(
                {
                    "sample_set": name,
                    "reference": reference,
                    "frechet_difference": float(cell.frechet_difference),
                    **_interval(cell, "frechet_infinite_difference"),
                    **_interval(cell, "kid_difference"),
                    "precision_difference": float(cell.precision_difference),
                    "recall_difference": float(cell.recall_difference),
                    **_interval(cell, "inception_score_ratio"),
                    "verdict": verdict(float(cell.kid_difference_low), float(cell.kid_difference_high)),
                }
            )
    return rows


def verdict(low: float, high: float) -> str:
    """What an interval of a difference of distances says."""
    return WORSE if low > 0 else BETTER if high < 0 else INCONCLUSIVE


def _interval(cell: xr.Dataset, name: str) -> dict[str, float]:
    return {key: float(cell[key]) for key in (name, f"{name}_low", f"{name}_high")}


def distance_cells(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of rows of one reference, as text."""
    at_floor = any(not math.isnan(row["frechet_at_floor"]) for row in rows)
    header = ["set", "n", "FD", *(["FD at floor's n"] if at_floor else []), "FD, n to infinity", "sFID", "KID x 1000"]
    cells = [
        [
            row["sample_set"] + (" (floor)" if row["floor"] else ""),
            str(row["samples"]),
            _number(row["frechet"]) + ("*" if row["frechet_reason"] == "few_per_dimension" else ""),
            *([_number(row["frechet_at_floor"])] if at_floor else []),
            _ends(row, "frechet_infinite") + ("*" if row["frechet_infinite_reason"] == "few_per_dimension" else ""),
            _number(row["spatial_frechet"]),
            _ends(row, "kid", 1000.0),
            _number(row["precision"]),
            _number(row["recall"]),
            _ends(row, "inception_score"),
        ]
        for row in rows
    ]
    return [*header, "precision", "recall", "inception score"], cells


def difference_cells(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of :func:`difference_rows`, as text."""
    cells = [
        [
            row["sample_set"],
            row["reference"].replace("_", " "),
            _number(row["frechet_difference"]),
            _ends(row, "frechet_infinite_difference"),
            _ends(row, "kid_difference", 1000.0),
            _number(row["precision_difference"]),
            _number(row["recall_difference"]),
            _ends(row, "inception_score_ratio"),
            row["verdict"],
        ]
        for row in rows
    ]
    return [
        "set",
        "against",
        "FD",
        "FD, n to infinity",
        "KID x 1000",
        "precision",
        "recall",
        "IS ratio",
        "by KID",
    ], cells


def print_quality(dataset: xr.Dataset) -> None:
    """All tables, with what the marks mean."""
    from studies.console import print_table

    for reference in dataset.reference.values.tolist():
        against = "real images" if reference == REAL else "full precision on other noise"
        print_table(f"Against {against}", *distance_cells(distance_rows(dataset, reference)))
    header, cells = difference_cells(difference_rows(dataset))
    if cells:
        print_table("Minus full precision on the same noise", header, cells)
    attrs = dataset.attrs
    print(
        f"features {attrs['features']}, {attrs['feature_dimension']} dimensions, spatial {attrs['spatial_dimension']}; "
        "n samples of either set; 95 % intervals in brackets"
    )
    print("*: from fewer than 20 samples per dimension; FD is biased upwards by about slope/n: compare at equal n only")


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}" if abs(value) >= 1 else f"{value:.3f}"


def _ends(row: dict[str, Any], name: str, factor: float = 1.0) -> str:
    if math.isnan(row[name]):
        return "-"
    value, low, high = (_number(factor * row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    return value if low == "-" else f"{value} [{low}, {high}]"
