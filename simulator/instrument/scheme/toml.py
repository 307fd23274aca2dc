"""Schemes as TOML::

    base = "w4g64a8"                  # a short string, optional
    name = "narrow"                   # optional
    target = "onnxruntime"            # a named target, or a target's .toml beside this file; optional
    intermediate = "float16"          # optional

    [all]                             # settings of every site, on top of the base
    output_bits = 16
    requantizer = "tflite-conv"
    accumulator = { kind = "register", bits = 20, overflow = "saturate", tree = 1,
                    k_order = "row-column-channel", zero_point = "inside", bias = "first" }

    [[site]]                          # rules, the last one wins
    sites = ["@attention", "up_blocks.*"]
    activation_bits = 4
    steps = [0, 10]                   # loop indices 0 to 9, optional

Fields are those of ``Settings``. Every error names its place in the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from samplers.errors import BadInput
from simulator.arithmetic.float_formats import BFLOAT16, FLOAT16, FLOAT32
from simulator.instrument.scheme.scheme import Rule, Scheme
from simulator.instrument.scheme.settings import Settings
from simulator.instrument.scheme.short_string import read
from simulator.targets.custom import load_target
from simulator.targets.description import Target
from simulator.targets.named import target as named_target
from simulator.targets.tables import parse, read_table

_FLOATS = {"float32": FLOAT32, "float16": FLOAT16, "bfloat16": BFLOAT16}
_KEYS = ("base", "name", "target", "intermediate", "all", "site")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def load(path: str | Path) -> Scheme:
    """The scheme of a TOML file.

    Raises:
        BadInput: no such file, no TOML, an unknown key, or a value that its field refuses.
    """
    return parse_scheme(read_table(path, "scheme"), Path(path).parent)


def parse_scheme(table: Mapping[str, Any], folder: Path = Path()) -> Scheme:
    """The scheme of a table as ``tomllib`` gives it; target files are looked for in ``folder``.

    Raises:
        BadInput: as :func:`load`.
    """
    unknown = [key for key in table if key not in _KEYS]
    if unknown:
        raise BadInput(f"a scheme has the keys {', '.join(_KEYS)}", got=repr(unknown[0]), fix="correct or drop it")
    base = read(_text(table, "base")) if "base" in table else Scheme()
    settings = parse(Settings, table.get("all", {}), "all", complete=False)
    rules = table.get("site", [])
    if not isinstance(rules, list):
        raise BadInput("site must be a list of tables", got=repr(rules)[:60], fix="write [[site]]")
    target = _target(_text(table, "target"), folder) if "target" in table else base.target
    name = _text(table, "name") if "name" in table else ""
    if name and not _NAME.fullmatch(name):
        raise BadInput("a scheme's name has letters, digits, '.', '_' and '-'", got=repr(name), fix="choose another")
    made = Scheme(
        base.settings | settings,
        (*base.rules, *(_rule(rule, f"site[{i}]") for i, rule in enumerate(rules))),
        target,
        _float(_text(table, "intermediate")) if "intermediate" in table else base.intermediate,
    )
    return replace(made, name=name) if name else made


def _rule(table: Any, where: str) -> Rule:
    if not isinstance(table, Mapping):
        raise BadInput(f"{where} must be a table", got=repr(table), fix="write [[site]]")
    patterns, steps = table.get("sites"), table.get("steps")
    if isinstance(patterns, str):
        patterns = [patterns]
    if not isinstance(patterns, list):
        raise BadInput(f"{where} must name its sites", got=repr(patterns), fix='write sites = ["*:qk"]')
    if steps is not None and not isinstance(steps, list):
        raise BadInput(f"{where}.steps must be [first, stop]", got=repr(steps), fix="0, 10 are the first ten")
    rest = {key: value for key, value in table.items() if key not in ("sites", "steps")}
    settings = parse(Settings, rest, where, complete=False)
    return Rule(tuple(patterns), settings, None if steps is None else tuple(steps))


def _target(text: str, folder: Path) -> Target:
    return load_target(folder / text) if text.endswith(".toml") else named_target(text)


def _float(text: str) -> Any:
    if text not in _FLOATS:
        raise BadInput(f"intermediate must be one of {', '.join(_FLOATS)}", got=repr(text), fix="choose one")
    return _FLOATS[text]


def _text(table: Mapping[str, Any], key: str) -> str:
    if not isinstance(table[key], str):
        raise BadInput(f"{key} must be text", got=repr(table[key]), fix="put it in quotes")
    return table[key]
