"""Examples on pages without a test of their own: their Python runs, made smaller, and `qnoise` takes their lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import typer

import simulator
from samplers import DDIM
from simulator.calibration.collection.normal import Normal
from simulator.calibration.collection.trajectories import collect
from simulator.calibration.reconstruction.settings import brecq
from simulator.calibration.training.settings import FineTuning
from studies import cli

ROOT = Path(__file__).resolve().parents[1]
METHODS = ROOT / "docs" / "methods"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def lines_of_code(text: str) -> Iterator[str]:
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    yield from (line for line in shell.splitlines() if line.startswith("qnoise "))
    yield from (line.strip() for line in text.splitlines() if line.startswith("    qnoise "))


@pytest.mark.parametrize(
    "line", [line for page in PAGES for line in lines_of_code(page.read_text(encoding="utf-8"))], ids=str.strip
)
def test_pages__commands_are_taken(line) -> None:
    command = typer.main.get_command(cli.app)
    _, *words = shlex.split(line, comments=True)
    while hasattr(command, "resolve_command"):
        name, command, words = command.resolve_command(command.make_context("qnoise", list(words)), words)
    assert command.make_context(name, words).params


def test_pages__commands_in_sentences_exist() -> None:
    known = set(typer.main.get_command(cli.app).commands)
    for page in PAGES:
        named = set(re.findall(r"`qnoise ([a-z][a-z-]*)", page.read_text(encoding="utf-8")))
        assert named <= known, page


def example(page: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (METHODS / page).read_text(encoding="utf-8"), re.DOTALL)
    return code


def ran(code: str, page: str, **names: object) -> dict:
    exec(compile(code, page, "exec"), names)
    return names


@pytest.fixture
def start(one_thread) -> dict[str, object]:
    """What fragments take for granted."""
    model = simulator.load("digits-unet")
    sampler = DDIM(model.schedule, num_inference_steps=2)
    return {
        "simulator": simulator,
        "model": model,
        "sampler": sampler,
        "scheme": simulator.Scheme.parse("w4a8"),
        "ranges": simulator.calibrate_ranges(model, sampler, samples=8),
    }


def test_weights__example_runs(start) -> None:
    made = ran(example("weights.md"), "weights.md", **start)
    added = set(made["ranges"].bounds) - set(start["ranges"].bounds)
    assert {role for _, role, _ in added} == {"weight"}


def test_collection__example_runs(one_thread, capsys) -> None:
    small = example("collection.md").replace("=1024", "=8").replace("=50", "=2").replace("(50)", "(2)")
    made = ran(small, "collection.md")
    assert made["points"].histogram(2).sum() == 8
    assert capsys.readouterr().out


def test_operands__example_runs(start) -> None:
    small = example("operands.md").replace("each(50)", "each(2)").replace("steps=", "samples=8, steps=")
    made = ran(small, "operands.md", **start)
    assert {(key[1], made["ranges"].bounds[key][0].size) for key in made["queries"]} == {("query", 8)}


def test_reconstruction__example_runs(start, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    quick = brecq("quick")
    short = replace(quick, roundings=replace(quick.roundings, iterations=2), scales=replace(quick.scales, iterations=2))
    start["samples"] = collect(start["model"], start["sampler"], Normal(), samples=8)
    made = ran(example("reconstruction.md").replace("brecq()", "short"), "reconstruction.md", short=short, **start)
    assert {role for _, role, _ in made["found"].ranges.bounds} > {"weight"}
    assert list((tmp_path / "reconstruction").iterdir())


def test_training__example_runs(one_thread, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    short = FineTuning(steps=2, batch_size=8, warmup_steps=1, evaluate_every=2, draws=16, start_samples=16)
    made = ran(example("qat.md").replace("QUICK, seed", "short, seed"), "qat.md", short=short)
    assert (tmp_path / "s10.safetensors").is_file()
    assert made["quantized"].ranges is not None
