"""A run that an engine is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from studies.study.spec import RunSpec


@dataclass(frozen=True)
class Task:
    """A run with its key.

    Args:
        key: SHA-256 of its configuration.
        spec: what to compute.
        again: in place of one that is there.
    """

    key: str
    spec: RunSpec
    again: bool = False
