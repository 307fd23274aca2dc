"""Runs arranged for drawing: those of one system over seeds, systems of one setting, and what to call them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from studies.sources.run import SEED, SETTING, SYSTEM, Run, Scalar

_SHORT = {"num_inference_steps": "{} steps", "samples": "{} samples", "eta": "η = {}", "guidance": "guidance {}"}
_ALONE = {"model", "sampler", "scheme", "recipe", "bits", "target", "correction", "rung"}


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only.

    Args:
        label: the fields that tell it from other groups of its panel.
        runs: one per seed, in the seeds' order.
    """

    label: str
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """The run of the least seed, where one stands for all."""
        return self.runs[0]


@dataclass(frozen=True)
class Panel:
    """Groups of one setting.

    Args:
        title: the fields that tell it from other panels.
        groups: one per system.
    """

    title: str
    groups: tuple[Group, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """Of all groups."""
        return tuple(run for group in self.groups for run in group.runs)


def arranged(runs: Sequence[Run]) -> list[Panel]:
    """A panel per setting, in it a group per system, each in the order in which it first occurs."""
    titled, labelled = varying(runs, SETTING), varying(runs, SYSTEM)
    panels = []
    for own in _split(runs, SETTING):
        groups = tuple(
            Group(
                name_of(alike[0], labelled) or name_of(alike[0], ("recipe", "bits", "scheme", "correction")),
                tuple(sorted(alike, key=_seed)),
            )
            for alike in _split(own, SYSTEM)
        )
        panels.append(Panel(name_of(own[0], titled) or name_of(own[0], ("model", "sampler", "eta")), groups))
    return panels


def varying(runs: Iterable[Run], fields: Sequence[str]) -> tuple[str, ...]:
    """Fields that are not the same in all runs."""
    rows = [[run.fields.get(name) for name in fields] for run in runs]
    return tuple(name for name, column in zip(fields, zip(*rows, strict=True), strict=True) if len(set(column)) > 1)


def name_of(run: Run, fields: Sequence[str]) -> str:
    """A run by some of its fields; what says nothing is passed over."""
    return ", ".join(filter(None, (spelled(name, run.fields.get(name)) for name in fields)))


def spelled(name: str, value: Scalar) -> str:
    """A field's value for titles and legends; empty where there is nothing to say."""
    if value is None or value == "":
        return ""
    silent = {"correction": "none", "rung": "complete", "guidance": 1.0, "state": "", "target": "int32-float32"}
    if silent.get(name) == value and name != "target":
        return ""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if name in ("scheme", "bits"):
        return text.upper()
    if name == "correction":
        return f"+ {text.upper()}"
    if name in _SHORT:
        return _SHORT[name].format(text)
    return text if name in _ALONE else f"{name} {text}"


def _split(runs: Iterable[Run], fields: Sequence[str]) -> list[list[Run]]:
    found: dict[tuple[Scalar, ...], list[Run]] = {}
    for run in runs:
        found.setdefault(tuple(run.fields.get(name) for name in fields), []).append(run)
    return list(found.values())


def _seed(run: Run) -> tuple[bool, float]:
    seed = run.fields.get(SEED)
    return (True, 0.0) if not isinstance(seed, int) else (False, float(seed))
