"""Where a fitted correction may be used: on the system it was fitted for, and on other samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samplers.errors import BadInput

SCOPE = (
    "model",
    "weights_digest",
    "guidance",
    "scheme",
    "scheme_config",
    "ranges",
    "target",
    "numerics_version",
    "sampler",
    "state",
)
"""Fields of a run's configuration that change what is fitted: the network, its integers, and the x_t that it sees.

Left out are the quantized run's own state, which the injected noise of a fit does not meet; threads and batch_size,
which move a fit by float rounding alone; samples, which move it by less than its standard error;
and the correction, which differs by nature.
"""


def require_same_scope(fit: Mapping[str, Any], use: Mapping[str, Any], what: str = "a correction") -> None:
    """Compare two configurations of plain JSON values over ``SCOPE``; ``what`` was fitted, for the message.

    Raises:
        BadInput: naming the first field that differs, down to the entry ("sampler.eta").
    """
    for field in SCOPE:
        if found := _difference(field, fit.get(field), use.get(field)):
            name, fitted, used = found
            raise BadInput(
                f"{what} holds only for the system it was fitted on, whose {name} is {fitted!r}",
                got=f"{name} {used!r}",
                fix=f"fit it again on a calibration run with this {field}",
            )


def require_equal(one: Mapping[str, Any], other: Mapping[str, Any], rule: str) -> None:
    """Compare two whole configurations of plain JSON values.

    Raises:
        BadInput: ``rule``, naming the first field that differs.
    """
    if found := _difference("", one, other):
        name, first, second = found
        raise BadInput(rule, got=f"{name.removeprefix('.')} {first!r} and {second!r}", fix="make them in one run")


def require_disjoint(fit: Mapping[str, Any], use: Mapping[str, Any], what: str = "a correction") -> None:
    """Refuse a run on the noise stream of the fit: streams of equal purpose and seed hold the same samples.

    Raises:
        BadInput: purpose and seed are equal.
    """
    stream = fit.get("purpose"), fit.get("seed")
    if stream == (use.get("purpose"), use.get("seed")):
        raise BadInput(
            f"samples that judge {what} must be other samples than those that fit it",
            got=f"purpose {stream[0]!r} and seed {stream[1]} for both",
            fix='evaluate with purpose="evaluate"',
        )


def _difference(name: str, fit: Any, use: Any) -> tuple[str, Any, Any] | None:
    if isinstance(fit, Mapping) and isinstance(use, Mapping):
        for key in sorted({*fit, *use}):
            if found := _difference(f"{name}.{key}", fit.get(key), use.get(key)):
                return found
        return None
    return None if fit == use else (name, fit, use)
