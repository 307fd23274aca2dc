"""Study files: TOML that becomes a :class:`Study`.

    name = "snr-vs-bits"
    summary = "How the SQNR of each step depends on bits."
    include = ["common.toml"]         # beside this file; what is said here wins
    figures = ["snr"]

    [run]                             # the same in all runs
    model = "digits-unet"

    [grid]                            # every combination
    scheme = ["w8a8", "w4a8"]
    seed = [0, 1, 2]

    [[zip]]                           # lists that go together
    sampler = ["ddim", "ddpm"]
    num_inference_steps = [50, 100]

Fields of runs are those of :class:`studies.study.spec.RunSpec`.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samplers.errors import BadInput
from studies.study.study import Axis, Scalar, Study, require_field

_TOP = ("name", "summary", "include", "figures", "run", "grid", "zip")
MOST_BYTES = 2**20
_MOST_DEPTH = 8


def read_study(path: Path, changes: Sequence[str] = ()) -> Study:
    """The study of a file.

    Args:
        path: the TOML file.
        changes: ``field=value`` in TOML's spelling (text may go without quotes): a value fixes the field, a list makes
            it vary, whatever the file says of it.

    Raises:
        BadInput: no such file, not TOML, a key that is unknown, a value of another type, or an include that goes in a
            circle or leaves the file's folder.
    """
    table = _read(path, ())
    for change in changes:
        _change(table, change)
    return _study(table, path)


def _read(path: Path, outer: tuple[Path, ...]) -> dict[str, Any]:
    """A file's table over those of what it includes."""
    place = path.resolve()
    if place in outer or len(outer) >= _MOST_DEPTH:
        raise BadInput("includes must end", got=" -> ".join(p.name for p in (*outer, place)), fix="drop one")
    table = _parse(path)
    includes = table.pop("include", [])
    if not isinstance(includes, list) or not all(isinstance(name, str) for name in includes):
        raise BadInput("include must be a list of file names", got=repr(includes), fix='include = ["common.toml"]')
    found: dict[str, Any] = {}
    for name in includes:
        inner = path.parent / name
        if Path(name).is_absolute() or path.parent.resolve() not in inner.resolve().parents:
            raise BadInput(
                "an include must lie beside its file or below",
                got=repr(name),
                fix="move it there",
            )
        found = _over(found, _read(inner, (*outer, place)))
    return _over(found, table)


def _parse(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadInput(f"a study file has at most {MOST_BYTES} bytes", got=str(path), fix="split it")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput("a study file must be readable", got=f"{path} ({error.strerror})", fix="name it") from None
    except (ValueError, RecursionError) as error:
        raise BadInput("a study file must be TOML", got=f"{path} ({error})", fix="correct it") from None
    for key in table:
        if key not in _TOP:
            near = difflib.get_close_matches(key, _TOP, n=1, cutoff=0.4)
            fix = (
                f"did you mean {near[0]}?" if near else f"a study has {', '.join(_TOP)}; fields of runs stand in [run]"
            )
            raise BadInput("a study file has no such key", got=f"{key!r} in {path.name}", fix=fix)
    for key in ("run", "grid"):
        if not isinstance(table.get(key, {}), dict):
            raise BadInput(f"[{key}] must be a table", got=f"{table[key]!r} in {path.name}", fix=f"write [{key}]")
    zipped = table.get("zip", [])
    if not isinstance(zipped, list) or not all(isinstance(one, dict) for one in zipped):
        raise BadInput("[[zip]] must be a list of tables", got=f"{zipped!r} in {path.name}", fix="write [[zip]]")
    return table


def _over(under: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """One file's table over another's: what a field is said to be last holds, wherever it stood."""
    named = {*table.get("run", {}), *table.get("grid", {}), *(name for one in table.get("zip", []) for name in one)}
    kept = {key: _without(under.get(key, {}), named) for key in ("run", "grid")}
    zipped = [one for one in under.get("zip", []) if not named & set(one)]
    return {
        **under,
        **table,
        "run": {**kept["run"], **table.get("run", {})},
        "grid": {**kept["grid"], **table.get("grid", {})},
        "zip": [*zipped, *table.get("zip", [])],
    }


def _without(table: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in names}


def _change(table: dict[str, Any], change: str) -> None:
    name, equals, text = change.partition("=")
    name = require_field(name.strip())
    if not equals:
        raise BadInput("a change is written field=value", got=repr(change), fix="--set seed=3, say")
    if any(name in one for one in table["zip"]):
        raise BadInput("a zipped field cannot be changed by itself", got=change, fix="edit the file")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        value = text.strip()
    chosen, other = ("grid", "run") if isinstance(value, list) else ("run", "grid")
    table[other].pop(name, None)
    table[chosen][name] = value


def _study(table: dict[str, Any], path: Path) -> Study:
    figures = table.get("figures", [])
    if not isinstance(figures, list) or not all(isinstance(name, str) for name in figures):
        raise BadInput("figures must be a list of names", got=repr(figures), fix='figures = ["snr"]')
    summary = table.get("summary", "")
    if not isinstance(summary, str):
        raise BadInput("summary must be text", got=repr(summary), fix="write it in quotes")
    fixed = {require_field(name): _scalar(name, value) for name, value in table["run"].items()}
    axes = [Axis({require_field(name): _list(name, values)}) for name, values in table["grid"].items()]
    axes += [Axis({require_field(name): _list(name, values) for name, values in one.items()}) for one in table["zip"]]
    return Study(table.get("name", path.stem), summary, fixed, tuple(axes), tuple(figures))


def _scalar(name: str, value: object) -> Scalar:
    if not isinstance(value, str | int | float | bool):
        fix = "put lists under [grid]" if isinstance(value, list) else "write text, a number, true or false"
        raise BadInput(f"{name} must be one value", got=repr(value), fix=fix)
    return value


def _list(name: str, values: object) -> tuple[Scalar, ...]:
    if not isinstance(values, list):
        raise BadInput(f"{name} must be a list where it varies", got=repr(values), fix="put it under [run]")
    return tuple(_scalar(name, value) for value in values)
