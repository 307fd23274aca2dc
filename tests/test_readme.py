"""The README is true: its Python example runs, and its commands are the ones CI calls."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_readme__example_of_a_run_runs(capsys) -> None:
    example, _ = EXAMPLES
    small = example.replace("=256", "=16").replace("=64", "=8").replace("=50", "=3")
    assert small != example
    exec(compile(small, "README.md", "exec"), {})
    assert "sqnr_db" in capsys.readouterr().out


def test_readme__example_of_the_engine_runs_and_saturates(capsys) -> None:
    _, example = EXAMPLES
    exec(compile(example, "README.md", "exec"), {})
    count, total = re.match(r"(\d+) of (\d+) outputs saturated", capsys.readouterr().out).groups()
    assert 0 < int(count) < int(total) == 32


def test_readme__has_one_run_and_one_test_command_that_ci_reads() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for name, ends in (("run", "qnoise run"), ("test", "pytest")):
        (command,) = re.findall(rf"<!-- {name} -->\n```sh\n(python3 .*)\n```", README)
        assert command.endswith(ends)
    assert "command_under test" in ci


def test_readme__results_are_generated() -> None:
    (results,) = re.findall(r"<!-- results:begin -->\n(.*?)<!-- results:end -->", README, re.DOTALL)
    assert results.count("\n| W") == 8
