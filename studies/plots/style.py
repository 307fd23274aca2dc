"""The look of every figure: sizes of the venues' columns, embedded fonts, colours and lines that survive grey print."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from studies.plots.venues import ICLR, Style

WIDTH_ICLR = ICLR.width()
"""Text width of NeurIPS and ICLR, inches: what figures have unless told otherwise."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colour-blind palette, without its yellow and black."""

RC: dict[Any, Any] = {
    "pdf.fonttype": 42,
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 6.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "axes.grid": True,
    "grid.linewidth": 0.3,
    "grid.alpha": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "qnoise",
}


DASHES: tuple[Any, ...] = (
    "-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2))
)  # fmt: skip
"""Beside colours, for grey print and colour-blind eyes."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

_SCALED: tuple[Any, ...] = (
    "font.size", "axes.titlesize", "axes.labelsize", "legend.fontsize", "xtick.labelsize", "ytick.labelsize",
    "axes.linewidth", "lines.linewidth", "grid.linewidth",
)  # fmt: skip

_STYLE: ContextVar[tuple[Style, float]] = ContextVar("style", default=(ICLR, WIDTH_ICLR))


@contextmanager
def drawn_for(style: Style, column: str | None = None, *, wide: bool = False) -> Iterator[None]:
    """Figures made, and saved, within are a venue's.

    Args:
        style: the venue.
        column: ``single`` or ``double``; by ``wide`` if None.
        wide: whether the figure has panels side by side.

    Raises:
        BadInput: the venue has no such column.
    """
    token = _STYLE.set((style, style.width(column, wide)))
    try:
        yield
    finally:
        _STYLE.reset(token)


@contextmanager
def paper() -> Iterator[None]:
    """Settings of the venue's figures, put back afterwards."""
    scale = _STYLE.get()[0].scale
    with mpl.rc_context({**RC, **{name: scale * RC[name] for name in _SCALED}}):
        yield


def size(height: float) -> tuple[float, float]:
    """Width of the venue's column, and a height for print, scaled: of a figure, in inches."""
    style, width = _STYLE.get()
    height *= style.scale
    return width, height if style.most_height is None else min(height, style.most_height)


def font(points: float) -> float:
    """A size for print, scaled."""
    return _STYLE.get()[0].scale * points


def abreast(most: int, least: float = 1.5) -> int:
    """How many panels stand side by side: ``most``, or fewer where one would have less than ``least`` inches."""
    style, width = _STYLE.get()
    return max(1, min(most, int(width / style.scale / least)))


def figure_bytes(figure: Figure, suffix: str) -> bytes:
    """A figure as pdf, svg or png with nothing of the clock in it: the same bytes for the same matplotlib."""
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}[suffix]
    buffer = io.BytesIO()
    with paper():  # font embedding and the salt of SVG's ids take effect on saving
        figure.savefig(buffer, format=suffix, dpi=200, metadata=metadata)
    return buffer.getvalue()


def file_bytes(figure: Figure, suffix: str) -> bytes:
    """As :func:`figure_bytes`, a png with a palette."""
    content = figure_bytes(figure, suffix)
    return _with_palette(content) if suffix == "png" else content


def save(figure: Figure, stem: Path) -> None:
    """Write ``stem.pdf`` and ``stem.png`` (of 256 colours), and close the figure; the folder is made if absent."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    for suffix in ("pdf", "png"):
        stem.with_suffix(f".{suffix}").write_bytes(file_bytes(figure, suffix))
    plt.close(figure)


def _with_palette(png: bytes) -> bytes:
    """A third of the size, which a repository and a web page are grateful for."""
    buffer = io.BytesIO()
    image = (
        Image.open(io.BytesIO(png)).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    image.save(buffer, "png", optimize=True)
    return buffer.getvalue()
