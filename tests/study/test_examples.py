"""Claim: the ready studies and the one in the documentation are studies that can be run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from studies.figures.registry import FIGURES
from studies.study.file import read_study
from studies.study.plan import plan

ROOT = Path(__file__).resolve().parents[2]
READY = sorted((ROOT / "examples" / "studies").glob("*.toml"))
NAMES = {
    "snr-vs-bits", "accumulator-width", "group-size", "rounding-mode", "fakequant-vs-integer", "step-aware-pareto",
    "eta-and-absorption", "targets-compared",
}  # fmt: skip


def test_ready_studies__are_those_that_are_promised() -> None:
    assert {path.stem for path in READY} == NAMES


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_ready_study__can_be_planned_and_drawn(path: Path) -> None:
    study = read_study(path)
    assert study.name == path.stem
    assert study.summary
    assert set(study.figures) <= set(FIGURES)
    assert len(plan(study)) == len(study)


def test_documented_study__can_be_planned(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"<!-- study -->\n```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "bits.toml").write_text(text)
    assert len(plan(read_study(tmp_path / "bits.toml"))) == 12
