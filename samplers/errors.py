"""Typed errors of the public edge.

Every error a user can provoke says three things in one line: the rule, what was given, and the fix. The command
line prints that line and exits with code 2; a library caller catches :class:`BadInput` (which is a ``ValueError``).
"""

from __future__ import annotations


class QnoiseError(Exception):
    """Base of every error that qnoise raises on purpose."""


class BadInput(QnoiseError, ValueError):
    """Input or environment that breaks a rule, found before the work starts.

    Args:
        rule: what must hold, as a full clause ("eta must be at least 0").
        got: what was given, as short text or a value.
        fix: what to do about it.
    """

    def __init__(self, rule: str, *, got: object, fix: str) -> None:
        self.rule, self.got, self.fix = rule, got, fix
        super().__init__(f"{rule}, got {got}; {fix}")
