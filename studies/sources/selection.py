"""``field=value``: which runs are meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from samplers.errors import BadInput
from studies.sources.run import Run, Scalar
from studies.study.study import require_field


def selected(runs: Sequence[Run], select: Sequence[str]) -> set[Path]:
    """Files of the runs that have one of the values named for each field that is named.

    Args:
        runs: chosen from.
        select: ``field=value``; a field that is named twice may have either value. A scheme may bring its target
            (w8a8@gemmlowp); an eta that a sampler does not have is "none".

    Raises:
        BadInput: no such field, or a value that no run has.
    """
    wanted: dict[str, list[str]] = {}
    for text in select:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise BadInput("a selection is written field=value", got=repr(text), fix="--select scheme=w4a8, say")
        require_field(name)
        if not any(_is(run, name, value) for run in runs):
            there = sorted({_text(run.fields.get(name)) for run in runs})
            raise BadInput(f"{name} of a run must be one of {', '.join(there)}", got=repr(value), fix="choose one")
        wanted.setdefault(name, []).append(value)
    found = {
        run.path
        for run in runs
        if all(any(_is(run, name, value) for value in values) for name, values in wanted.items())
    }
    if runs and not found:
        raise BadInput("a selection must leave a run", got=", ".join(select), fix="drop one of them")
    return found


def _is(run: Run, name: str, value: str) -> bool:
    if name == "scheme" and "@" in value:
        scheme, _, target = value.partition("@")
        return _is(run, name, scheme) and _is(run, "target", target)
    own = run.fields.get(name)
    if isinstance(own, int | float) and not isinstance(own, bool):
        try:
            return float(value) == own
        except ValueError:
            return False
    return _text(own).lower() == value.lower()


def _text(value: Scalar) -> str:
    if value is None or value == "":
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
