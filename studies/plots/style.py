"""The look of every figure: sizes of the venues' columns, embedded fonts, colours and lines that survive grey print."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

WIDTH_ICLR = 5.5
"""Text width of NeurIPS and ICLR, inches."""

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


@contextmanager
def paper() -> Iterator[None]:
    """Settings of a paper figure, put back afterwards."""
    with mpl.rc_context(RC):
        yield


def figure_bytes(figure: Figure, suffix: str) -> bytes:
    """A figure as pdf, svg or png with nothing of the clock in it: the same bytes for the same matplotlib."""
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}[suffix]
    buffer = io.BytesIO()
    with paper():  # font embedding and the salt of SVG's ids take effect on saving
        figure.savefig(buffer, format=suffix, dpi=200, metadata=metadata)
    return buffer.getvalue()


def save(figure: Figure, stem: Path) -> None:
    """Write ``stem.pdf`` and ``stem.png`` (of 256 colours), and close the figure; the folder is made if absent."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".pdf").write_bytes(figure_bytes(figure, "pdf"))
    stem.with_suffix(".png").write_bytes(_with_palette(figure_bytes(figure, "png")))
    plt.close(figure)


def _with_palette(png: bytes) -> bytes:
    """A third of the size, which a repository and a web page are grateful for."""
    buffer = io.BytesIO()
    image = (
        Image.open(io.BytesIO(png)).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    image.save(buffer, "png", optimize=True)
    return buffer.getvalue()
