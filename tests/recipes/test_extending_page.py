"""docs/extending.md is true: its recipe is one, and its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

from studies.recipes.recipe import Recipe

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")


def block(marker: str) -> str:
    (found,) = re.findall(rf"<!-- {marker} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    return found


def test_page__its_recipe_is_one() -> None:
    made: dict = {}
    exec(compile(block("recipe"), "extending.md", "exec"), made)
    assert isinstance(made["RECIPE"], Recipe)
    assert [stage.name for stage in made["RECIPE"].stages] == ["scheme", "ranges", "correction"]


def test_page__its_python_runs(one_thread) -> None:
    made: dict = {}
    small = block("python").replace("num_inference_steps=10", "num_inference_steps=2").replace("=64", "=8")
    exec(compile(small, "extending.md", "exec"), made)
    assert made["run"].sizes["step"] == 2
