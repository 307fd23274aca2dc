"""docs/precision.md is true: its example runs, and its commands are ones that the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from studies import cli

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "precision.md").read_text(encoding="utf-8")


def test_page__its_example_runs(capsys, one_thread) -> None:
    (example,) = re.findall(r"<!-- example -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    small = example.replace("=256", "=8").replace("=64", "=8").replace("=50", "=2")
    assert small != example
    exec(compile(small, "precision.md", "exec"), {})
    assert "final_sqnr_db" in capsys.readouterr().out


def test_page__its_options_exist(monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["qnoise", "precision", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    used = {word for line in block.splitlines() for word in shlex.split(line, comments=True) if word.startswith("--")}
    assert used
    assert used <= known
