"""What was done to every contraction of one audited pass, and what nobody could see into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from torch import Tensor, nn

from simulator.instrument.contractions import Contraction
from simulator.instrument.forward import Call, forward
from simulator.instrument.interception import Handler
from simulator.instrument.sites import SiteKey


class Done(Enum):
    """What happened to a contraction."""

    HANDLED = "handled"
    """It ran at a site, and its handler computed the result."""
    FLOAT = "float"
    """It stayed in float, as ``allow_float`` says."""
    UNKNOWN = "unknown"
    """It ran where torch's modes do not reach: custom operators, TorchScript graphs, numpy. Never covered."""


@dataclass(frozen=True)
class Entry:
    """One contraction, or one opaque operation.

    Attributes:
        site: name of the site, or ``module:operation`` of what ran outside one.
        done: what happened to it.
        operands: shapes of everything multiplied, in order; () outside sites.
        macs: multiply-accumulates of the whole batch, None where they are not known.
        how: what the handler made of it, for instance its bits.
    """

    site: str
    done: Done
    operands: tuple[tuple[int, ...], ...] = ()
    macs: int | None = None
    how: str = ""


@dataclass(frozen=True)
class Coverage:
    """Every contraction of one pass, in execution order."""

    entries: tuple[Entry, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates that ran at handled sites."""
        return sum(entry.macs or 0 for entry in self.entries if entry.done is Done.HANDLED)

    @property
    def float_macs(self) -> int | None:
        """Multiply-accumulates that stayed in float, None if one of them is not known."""
        counts = [entry.macs for entry in self.entries if entry.done is Done.FLOAT]
        return None if None in counts else sum(n for n in counts if n is not None)

    @property
    def unknown(self) -> tuple[str, ...]:
        """What could not be seen into."""
        return tuple(entry.site for entry in self.entries if entry.done is Done.UNKNOWN)

    @property
    def complete(self) -> bool:
        """Whether every contraction was handled."""
        return all(entry.done is Done.HANDLED for entry in self.entries)

    def report(self) -> str:
        """A table of text: site, what was done, operands, multiply-accumulates."""
        rows = [("site", "done", "operands", "MACs")]
        for entry in self.entries:
            shapes = " . ".join("x".join(map(str, shape)) for shape in entry.operands)
            rows.append(
                (entry.site, entry.how or entry.done.value, shapes, "?" if entry.macs is None else str(entry.macs))
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join([*map(str.ljust, row[:3], widths), row[3].rjust(widths[3])]) for row in rows]
        in_float = "?" if self.float_macs is None else self.float_macs
        handled = sum(entry.done is Done.HANDLED for entry in self.entries)
        lines.append(f"{handled} of {len(self.entries)} handled, {self.macs} MACs; in float: {in_float} MACs; "
                     f"unknown: {', '.join(self.unknown) or 'none'}")  # fmt: skip
        return "\n".join(lines)


def cover(
    module: nn.Module,
    x: Tensor,
    timestep: Tensor,
    *,
    handler: Handler | None = None,
    call: Call | None = None,
    allow_float: tuple[str, ...] = (),
    describe: Callable[[SiteKey], tuple[Done, str]] | None = None,
) -> Coverage:
    """Coverage of one audited pass of ``module(x, timestep)``; a handler is asked for each result, float by default.

    ``describe`` says what the handler does at a site, also in a few words; without it, that it computes the result.

    Raises:
        UncoveredContraction: a contraction outside sites, or an opaque operation, that ``allow_float`` does not name.
    """
    entries: list[Entry] = []

    def enter(site: SiteKey, contraction: Contraction, done: Done, how: str = "") -> None:
        shapes = tuple(tuple(operand.shape) for operand in contraction.operands())
        entries.append(Entry(str(site), done, shapes, contraction.macs, how))

    def handle(site: SiteKey, contraction: Contraction) -> Tensor:
        enter(site, contraction, *((Done.HANDLED, "") if describe is None else describe(site)))
        return contraction.float() if handler is None else handler(site, contraction)

    def note(operation: str, path: str, opaque: bool) -> None:
        name = f"{path}:{operation}" if path else operation
        entries.append(Entry(name, Done.UNKNOWN if opaque else Done.FLOAT))

    options: dict[str, Any] = {"call": call, "allow_float": allow_float, "note": note}
    forward(module, handle, x, timestep, allowed=lambda site, c: enter(site, c, Done.FLOAT), **options)
    return Coverage(tuple(entries))
