"""docs/schemes.md is true: its TOML and its Python run, and its tables name every addition, field and rung."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

import simulator
from simulator.instrument.plan import Plan
from simulator.instrument.rungs import Rung
from simulator.instrument.scheme import Scheme, Settings
from simulator.instrument.scheme.patterns import _SELECTORS
from simulator.instrument.scheme.toml import parse_scheme

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "schemes.md").read_text(encoding="utf-8")


def block(marker: str, language: str) -> str:
    (found,) = re.findall(rf"<!-- {marker} -->\n```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


def test_page__its_scheme_fits_the_shipped_unet():
    scheme = parse_scheme(tomllib.loads(block("scheme", "toml")))
    plan = Plan(scheme, simulator.survey(simulator.load("digits-unet")))
    described = {str(facts.key): plan.at(facts.key, 0).describe() for facts in plan.sites}
    assert described["mid.attention:qk"] == "a8 a6 o16 acc20"
    assert described["up.1.conv1:conv2d"] == "a8 w6 g64 o16 acc20"
    assert described["time_embedding.linear1:linear"] == "float32"


def test_page__its_python_runs(capsys):
    small = block("python", "python").replace("=256", "=16").replace("=64", "=8").replace("=50", "=2")
    exec(compile(small.replace("partition(25, 50)", "partition(1, 2)"), "schemes.md", "exec"), {})
    assert capsys.readouterr().out.count("sqnr_db") == 2


@pytest.mark.parametrize("text", re.findall(r"\| `([a-z0-9@-]+)` \|\n", PAGE))
def test_page__its_short_strings_are_schemes(text):
    assert str(Scheme.parse(text)) == text


def test_page__names_every_field_selector_and_rung():
    for name in (*(field.name for field in fields(Settings)), *_SELECTORS, *(rung.value for rung in Rung)):
        assert f"`{name}`" in PAGE
