"""Claim: the tables of docs/quality.md are those of the committed results, which were made with enough samples."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from studies.quality.job import PUBLISHABLE

ROOT = Path(__file__).resolve().parents[2]


def generator():
    spec = importlib.util.spec_from_file_location("generate_quality", ROOT / "docs" / "generate_quality.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_page__is_what_the_generator_writes() -> None:
    made = generator()
    assert made.page() == made.PAGE.read_text(encoding="utf-8")


def test_page__publishes_10000_samples_or_more() -> None:
    found = json.loads(generator().RESULTS.read_text(encoding="utf-8"))
    assert found["generated"] >= PUBLISHABLE
    assert {row["samples"] for row in found["distances"] if row["reference"] == "full_precision"} == {
        found["generated"]
    }
