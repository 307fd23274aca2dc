"""Recipes printed: a table of all, or all that one says."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from studies.console import print_json, print_table
from studies.main_job import put_working_folder_on_path
from studies.recipes.catalogue import find, shipped
from studies.recipes.recipe import Recipe, Stage


def show_methods(as_json: bool) -> None:
    """Every shipped recipe."""
    if as_json:
        print_json([_content(recipe) for recipe in shipped().values()])
        return
    rows = [
        [recipe.name, f"{recipe.source.authors}, {recipe.source.venue}", recipe.source.title]
        for recipe in shipped().values()
    ]
    print_table("recipes", ["recipe", "by", "paper"], rows)


def show_method(name: str, as_json: bool) -> None:
    """One recipe.

    Raises:
        BadInput: no such recipe.
    """
    if ":" in name:
        put_working_folder_on_path()
    recipe = find(name)
    if as_json:
        print_json(_content(recipe))
        return
    source = recipe.source
    print(f"{recipe.name}: {recipe.summary}\n{source.title}. {source.authors}, {source.venue}\n")
    for number, stage in enumerate(recipe.stages, 1):
        print(f"{number}. {stage_text(stage)}")
    for deviation in recipe.deviations:
        print(f"\nDiffers: {deviation}")


def stage_text(stage: Stage) -> str:
    """What a stage is and its parameters: ``ranges: samples 256, observer min-max, order one-step``."""
    return f"{stage.name}: {_pairs(stage.config())}" if stage.config() else stage.name


def _pairs(config: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_value(value)}" for key, value in config.items() if value is not None)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        rest = {key: each for key, each in value.items() if key != "name"}
        inside = f"({_pairs(rest)})" if rest else ""
        return f"{value['name']} {inside}".rstrip() if "name" in value else inside or "none"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return str(value)


def _content(recipe: Recipe) -> dict[str, Any]:
    return {
        "name": recipe.name, "summary": recipe.summary, "source": dataclasses.asdict(recipe.source),
        "stages": recipe.config()["stages"], "deviations": list(recipe.deviations),
    }  # fmt: skip
