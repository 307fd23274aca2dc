"""Claim: the tables of docs/theory.md are generated, and those of closed forms are what the functions give now."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("generate_theory", ROOT / "docs" / "generate_theory.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def block(name: str) -> str:
    (text,) = re.findall(rf"<!-- {name}:begin -->\n(.*?)<!-- {name}:end -->", PAGE, re.DOTALL)
    return text


def test_theory__tables_of_closed_forms_are_what_the_functions_give(generator) -> None:
    for name, make in generator.FORMS.items():
        assert block(name) == make()


def test_theory__tables_of_models_hold_every_scheme_and_their_figures_exist(generator) -> None:
    for model in generator.MODELS:
        shares = block(f"shares-{model}").splitlines()
        assert [line.split(" | ")[0] for line in shares[2:]] == [
            f"| {scheme}" for scheme in ("W8A8", "W6A6", "W4A8", "W4A4") for _ in range(5)
        ]
        assert block(f"misses-{model}").startswith(("| scheme | site |", "None."))
        assert f"figures/layers-{model}.png" in PAGE
        assert (ROOT / "docs" / "figures" / f"layers-{model}.png").is_file()
