"""A machine from a TOML table: the fields of :class:`Target`, every one stated, spelled as ``tables.py`` says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulator.targets.description import Target
from simulator.targets.tables import literal, parse, read_table, to_table


def load_target(path: str | Path) -> Target:
    """The target of a TOML file.

    Raises:
        BadInput: no such file, no TOML, or as :func:`parse_target`.
    """
    return parse_target(read_table(path, "target"))


def parse_target(table: Mapping[str, Any]) -> Target:
    """The target of a table, as ``tomllib`` gives it.

    Raises:
        BadInput: an unknown key, a missing field, a wrong type or name (with its place in the table), or a combination
            that :class:`Target` refuses.
    """
    return parse(Target, table, "target")


def format_target(target: Target) -> str:
    """The target as TOML; :func:`parse_target` gives an equal one back."""
    return "".join(f"{key} = {literal(value)}\n" for key, value in to_table(target).items())
