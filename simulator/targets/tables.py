"""Frozen dataclasses as tables of text and numbers, in both directions: what TOML files of machines and schemes hold.

Enums are their members' names in lower case with dashes (``overflow = "saturate"``), formats, rules and requantizers
their names (``"int8"``, ``"uint4"``, ``"float32"``, ``"tflite"``, ``"fbgemm"``), an absent field the text ``"none"``.
A value that may be of several kinds names its own in ``kind``::

    accumulator = { kind = "register", bits = 20, overflow = "saturate", tree = 4, k_order = "row-column-channel",
                    zero_point = "inside", bias = "first" }
    granularity = { kind = "per-group", axis = 1, size = 128, axes = [0] }

Unknown keys, missing fields and wrong types are errors, which name their place in the table.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator
from simulator.arithmetic.float_formats import FLOAT32, NARROW_FORMATS, FloatFormat
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import Granularity, PerAxis, PerBlock, PerGroup, PerTensor
from simulator.arithmetic.pair_accumulator import PairAccumulator
from simulator.arithmetic.requantize import REQUANTIZERS
from simulator.arithmetic.rules import QUANTIZE_RULES, QuantizeRule
from simulator.arithmetic.scale_formats import (
    FixedPointScale,
    Float32Scale,
    FloatScale,
    PowerOfTwoScale,
    ScaleFormat,
)
from simulator.targets.description import AnyRequantizer, FloatAccumulator

NONE = "none"
GRANULARITIES = {"per-tensor": PerTensor, "per-axis": PerAxis, "per-group": PerGroup, "per-block": PerBlock}
SCALES = {
    "float32": Float32Scale,
    "float": FloatScale,
    "power-of-two": PowerOfTwoScale,
    "fixed-point": FixedPointScale,
}
ACCUMULATORS = {"register": Accumulator, "pairs": PairAccumulator, "float": FloatAccumulator}
INTEGERS = {
    str(made): made
    for bits in range(1, 17)
    for signed, narrow in ((True, False), (False, False), (True, True))
    if bits > 1 or not narrow
    for made in (IntFormat(bits, signed, narrow),)
}
NAMED: dict[Any, Mapping[str, Any]] = {
    IntFormat: INTEGERS,
    FloatFormat: {str(made): made for made in (*NARROW_FORMATS, FLOAT32)},
    QuantizeRule: QUANTIZE_RULES,
    AnyRequantizer: REQUANTIZERS,
}
"""Values that stand in a table by their name."""
KINDS: dict[Any, Mapping[str, type]] = {
    Granularity: GRANULARITIES,
    ScaleFormat: SCALES,
    Accumulator | PairAccumulator | FloatAccumulator: ACCUMULATORS,
}
"""Fields of several kinds."""


def read_table(path: str | Path, what: str) -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        BadInput: no such file, or no TOML.
    """
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"a {what} must be a readable TOML file", got=f"{path}: {error}", fix="correct it") from error


def parse(hint: Any, value: Any, where: str, *, complete: bool = True) -> Any:
    """The value of type ``hint`` that a table's value stands for.

    Args:
        hint: a dataclass, an enum, a registered kind, a tuple or a plain type.
        value: as ``tomllib`` gives it.
        where: its place, for messages.
        complete: every field of the outer dataclass must be stated; else absent ones keep their defaults. Dataclasses
            inside it state every field in either case.

    Raises:
        BadInput: an unknown key, a missing field, a wrong type or name, or a value that its class refuses.
    """
    if is_dataclass(hint) and hint not in NAMED and hint not in KINDS:
        return _record(hint, value, where, set(), complete)
    return _parse(hint, value, where)


def to_table(value: Any) -> Any:
    """A value as tables, lists, texts and numbers; :func:`parse` gives an equal one back."""
    return _table(value)


def literal(value: Any) -> str:
    """A table's value as TOML."""
    return _literal(value)


def _parse(hint: Any, value: Any, where: str) -> Any:
    if hint in NAMED:
        return _named(NAMED[hint], value, where)
    if hint in KINDS:
        return _record(KINDS[hint][_kind(KINDS[hint], value, where)], value, where, {"kind"}, complete=True)
    if get_origin(hint) in (Union, UnionType) and type(None) in get_args(hint):
        return None if value == NONE else _parse(_without_none(hint), value, where)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise BadInput(f"{where} must be a list", got=repr(value), fix="put it in brackets")
        return tuple(_parse(get_args(hint)[0], each, f"{where}[{i}]") for i, each in enumerate(value))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _named({_member(member): member for member in hint}, value, where)
    if is_dataclass(hint):
        return _record(hint, value, where, set(), complete=True)
    if type(value) is not hint:
        raise BadInput(f"{where} must be of type {hint.__name__}", got=repr(value), fix="correct it")
    return value


def _record(kind: Any, value: Any, where: str, besides: set[str], complete: bool) -> Any:
    if not isinstance(value, Mapping):
        raise BadInput(f"{where} must be a table", got=repr(value), fix="write { key = value, ... }")
    hints = _hints(kind)
    for key in value:
        if key not in hints and key not in besides:
            near = get_close_matches(key, hints, 1, cutoff=0)
            fix = f"did you mean {near[0]!r}?" if near else "drop it"
            raise BadInput(f"{where} must have no unknown key", got=repr(key), fix=fix)
    missing = [key for key in hints if key not in value]
    if complete and missing:
        raise BadInput(f"{where} must state every field", got=f"no {missing[0]!r}", fix=f"add {', '.join(missing)}")
    return kind(**{key: _parse(hint, value[key], f"{where}.{key}") for key, hint in hints.items() if key in value})


def _kind(kinds: Mapping[str, type], value: Any, where: str) -> str:
    if not isinstance(value, Mapping) or "kind" not in value:
        raise BadInput(f"{where} must be a table with a kind", got=repr(value), fix=f"kinds: {', '.join(kinds)}")
    _named(kinds, value["kind"], f"{where}.kind")
    return value["kind"]


def _named(names: Mapping[str, Any], value: Any, where: str) -> Any:
    if not isinstance(value, str) or value not in names:
        near = get_close_matches(str(value), names, 1, cutoff=0) or list(names)[:1]
        raise BadInput(f"{where} must have a known name", got=repr(value), fix=f"did you mean {near[0]!r}?")
    return names[value]


def _without_none(hint: Any) -> Any:
    rest = [part for part in get_args(hint) if part is not type(None)]
    joined = rest[0]
    for part in rest[1:]:
        joined = joined | part
    return joined


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Type of each field, in the dataclass's order."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _member(member: Enum) -> str:
    return member.name.lower().replace("_", "-")


def _table(value: Any) -> Any:
    """A value as tables, lists, texts and numbers."""
    if value is None:
        return NONE
    if isinstance(value, Enum):
        return _member(value)
    if isinstance(value, tuple):
        return [_table(each) for each in value]
    if isinstance(value, type):
        return next(name for name, kind in REQUANTIZERS.items() if kind is value)
    if isinstance(value, IntFormat | FloatFormat | QuantizeRule):
        return str(value)
    if not is_dataclass(value):
        return value
    kinds = [name for group in KINDS.values() for name, kind in group.items() if kind is type(value)]
    known = {"kind": kinds[0]} if kinds else {}
    return known | {name: _table(getattr(value, name)) for name in _hints(value.__class__)}


def _literal(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_literal(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
