"""Where figures go: the widths of venues' columns, and how large a talk needs its letters. Imports nothing heavy."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from samplers.errors import BadInput

SINGLE, DOUBLE = "single", "double"
COLUMNS = (SINGLE, DOUBLE)


@dataclass(frozen=True)
class Style:
    """A venue's sizes, in inches.

    Args:
        name: on the command line.
        widths: column -> width; ``double`` spans both columns of a page that has two.
        scale: of letters and lines, 1 for print.
        most_height: of a figure, None for as much as it needs.
    """

    name: str
    widths: Mapping[str, float] = field(hash=False)
    scale: float = 1.0
    most_height: float | None = None

    def width(self, column: str | None = None, wide: bool = False) -> float:
        """Of a column; without one, of the wider of two where the figure is ``wide``, else of the narrower.

        Raises:
            BadInput: the venue has no such column.
        """
        if column is None:
            column = DOUBLE if wide and DOUBLE in self.widths else SINGLE
        if column not in self.widths:
            raise BadInput(
                f"column must be one of {', '.join(self.widths)} for {self.name}", got=repr(column), fix="choose one"
            )
        return self.widths[column]


ICLR = Style("iclr", {SINGLE: 5.5})
STYLES = {
    style.name: style
    for style in (
        Style("neurips", {SINGLE: 5.5}),
        Style("icml", {SINGLE: 3.25, DOUBLE: 6.75}),
        Style("cvpr", {SINGLE: 3.25, DOUBLE: 6.875}),
        ICLR,
        Style("talk", {SINGLE: 10.0}, scale=10.0 / 5.5, most_height=5.625),
    )
}
"""By name; a talk's slide is 16:9, its letters those of a paper's figure stretched to its width."""


def find_style(name: str) -> Style:
    """The style of a name.

    Raises:
        BadInput: there is none; the nearest one is in the message.
    """
    if name not in STYLES:
        near = difflib.get_close_matches(name, STYLES, n=1, cutoff=0.4)
        raise BadInput(
            f"style must be one of {', '.join(STYLES)}", got=repr(name),
            fix=f"did you mean {near[0]}?" if near else "choose one",
        )  # fmt: skip
    return STYLES[name]
