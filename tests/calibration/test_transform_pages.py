"""docs/methods/balancing.md and transforms.md are true: their Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from simulator.calibration.transforms.equivalence import largest_change

METHODS = Path(__file__).resolve().parents[2] / "docs" / "methods"


@pytest.mark.parametrize(("page", "marker"), [("balancing.md", "balance"), ("transforms.md", "low-rank")])
def test_page__example_runs_and_keeps_the_function(page, marker, one_thread) -> None:
    text = (METHODS / page).read_text(encoding="utf-8")
    (code,) = re.findall(rf"<!-- {marker} -->\n```python\n(.*?)```", text, re.DOTALL)
    small = code.replace("=256", "=2").replace("=64)", "=2)").replace("=64, sites", "=2, sites").replace("=50", "=2")
    assert small.count("=2") >= 3
    names: dict = {}
    exec(compile(small, page, "exec"), names)
    assert largest_change(names["model"], names["network"].model) < 1e-5
