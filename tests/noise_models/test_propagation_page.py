"""Claim: the tables of docs/propagation.md are those of the committed results, and their columns say what they hold."""

import importlib.util
from pathlib import Path

from studies.prediction.table import hits, prediction_rows

ROOT = Path(__file__).resolve().parents[2]


def test_page__is_what_the_generator_writes() -> None:
    spec = importlib.util.spec_from_file_location("generate_propagation", ROOT / "docs" / "generate_propagation.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert made.page() == made.PAGE.read_text(encoding="utf-8")


def record(sampler: str, measured: float, **predicted: float) -> dict:
    return {
        "sampler": sampler, "steps": 10, "scheme": "w8a8", "measured": measured, "standard_error": 0.05,
        "samples": 64, "predicted": predicted, "prediction_standard_error": 0.07,
    }  # fmt: skip


def test_table__marks_misses_of_the_first_predictor_and_counts_hits() -> None:
    records = [record("ddim:0", 20.0, ours=21.0, other=18.0), record("ddpm", 20.0, ours=21.01, other=20.5)]
    records[0]["steps"] = 50
    header, rows = prediction_rows(records)
    assert header[-3:] == ["ours", "its s.e.", "other"]
    assert [row[-3:] for row in rows] == [["+1.00", "0.07", "-2.00"], ["+1.01 *", "0.07", "+0.50"]]
    assert hits(records) == [
        ("ours", 1, 2), ("other", 1, 2), ("ours, ddim:0", 1, 1), ("ours, ddpm", 0, 1), ("ours, 10 steps", 0, 1),
        ("ours, 50 steps", 1, 1),
    ]  # fmt: skip
