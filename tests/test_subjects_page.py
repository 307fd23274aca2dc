"""docs/subjects.md is true: its Python runs, and prints what the page says and claims."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from simulator.models.subjects import SUBJECTS

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "subjects.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.usefixtures("one_thread")


def printed(marker: str, capsys) -> str:
    (code,) = re.findall(rf"<!-- {marker} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "subjects.md", "exec"), {})
    return capsys.readouterr().out


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", text)]


def test_page__names_every_subject():
    assert set(re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)) == set(SUBJECTS)


@pytest.mark.parametrize("marker", ["sampler", "absorption"])
def test_page__prints_what_it_says(marker, capsys):
    (text,) = re.findall(rf"<!-- {marker} -->\n```python\n.*?```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert printed(marker, capsys) == text


def test_page__even_softmax_outputs_have_no_code(capsys):
    found = numbers(printed("engine", capsys))
    assert abs(found[0]) < 1
    assert found[-1] > 30
