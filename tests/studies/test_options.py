"""An option of one name means one thing: the same text and default in every command that has it."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer.main

from studies import cli

COMMANDS = typer.main.get_command(cli.app).commands
OF_THEIR_OWN = {
    ("train", "out"): "weights, not results",
    ("train", "steps"): "of training",
    ("feasibility", "steps"): "a map of many",
    ("feasibility", "eta"): "a map of many",
    ("predict", "steps"): "a grid of many",
    ("scoreboard", "steps"): "the preset's own",
    ("predict", "sampler"): "a grid of many",
    ("explain", "guidance"): "several weights",
    ("explain", "conditioning"): "several weights",
    ("run", "eta"): "its default job has two",
    ("export-onnx", "scheme"): "8-bit schemes only",
    ("correct", "scheme"): "one scheme",
}
SHARED = (
    "model", "sampler", "knob", "eta", "steps", "seed", "calibration_samples", "conditioning", "guidance", "threads",
    "out", "json",
)  # fmt: skip
DEFAULTS_OF_THEIR_OWN = {("predict", "calibration_samples"), ("predict-layers", "steps")}


def options(name: str) -> dict:
    return {
        command: option
        for command, its in COMMANDS.items()
        for option in its.params
        if option.name == name and option.param_type_name == "option" and (command, name) not in OF_THEIR_OWN
    }


@pytest.mark.parametrize("name", SHARED)
def test_option__has_one_help_text_and_default_in_all_commands(name: str) -> None:
    found = options(name)
    assert len(found) > 1
    assert len({option.help for option in found.values()}) == 1
    assert len({(option.multiple, tuple(option.opts)) for option in found.values()}) == 1
    defaults = {option.default for command, option in found.items() if (command, name) not in DEFAULTS_OF_THEIR_OWN}
    assert len(defaults) == 1


def test_schemes__are_described_alike() -> None:
    helps = {option.help.partition(" [default")[0] for option in options("scheme").values()}
    assert helps == {cli.SCHEMES_HELP}


@pytest.mark.parametrize("name", ["run", "explain", "quality", "predict", "predict-layers", "precision", "correct"])
def test_study__has_every_shared_option(name: str) -> None:
    here = {option.name for option in COMMANDS[name].params}
    assert set(SHARED) - here == ({"eta", "knob"} if name == "predict" else set())


def test_readme__lists_every_command_with_a_link_or_a_sentence() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    table = readme.partition("## Commands")[2].partition("\n## ")[0]
    listed = [line.split("`")[1].removeprefix("qnoise ") for line in table.splitlines() if line.startswith("| `")]
    assert sorted(listed) == sorted(COMMANDS)
    assert all(len(line.split("|")[2].strip()) > 20 for line in table.splitlines() if line.startswith("| `"))
