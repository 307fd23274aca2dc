"""A drawing as part of a page: an SVG without its prolog, its ids its own, its colours those of the page's theme."""

from __future__ import annotations

import re

from studies.plots.style import COLORS
from studies.report.markup import Html

INK, PAPER = (0xE6, 0xE6, 0xE6), (0x17, 0x19, 0x1D)
"""Of the dark theme; figures are drawn black on white."""

LIGHTER = dict(
    zip(
        (color.lower() for color in COLORS),
        ("#5ab4ec", "#ff8f4a", "#35d0a4", "#e6a3c8", "#f0b429", "#8fd0f5"),
        strict=True,
    )
)
"""Colours of lines on dark paper."""

_DROPPED = re.compile(
    r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>|<defs>\s*</defs>", re.S
)
_NAMESPACE = re.compile(r'\s+xmlns(?::\w+)?="[^"]*"')
_REFERENCE = re.compile(r'(\bid="|\bhref="#|url\(#)')
_COLOR = re.compile(r"\b(fill|stroke): (#[0-9a-f]{6})\b")
_OPEN = re.compile(r"<svg[^>]*?viewBox=\"([^\"]*)\"[^>]*>", re.S)


def inlined(svg: bytes, name: str, title: str) -> Html:
    """The drawing as an element of a page.

    Args:
        svg: as ``figure_bytes`` gives it.
        name: put before its ids, so that no two drawings of a page share one.
        title: what a screen reader says of it; escaped.
    """
    import html

    text = _DROPPED.sub("", svg.decode())
    text = _NAMESPACE.sub("", text).replace("xlink:href", "href")
    text = _REFERENCE.sub(lambda found: f"{found[1]}{name}-", text)
    text = _COLOR.sub(lambda found: f"{found[1]}: var(--{_variable(found[2])}, {found[2]})", text)
    label = html.escape(title)
    text = _OPEN.sub(lambda found: f'<svg viewBox="{found[1]}" role="img" aria-label="{label}">', text, count=1)
    return Html(re.sub(r"\n\s*", "\n", text.strip()))


def theme(page: str) -> tuple[str, str]:
    """Declarations of the colours that a page's drawings use, for light and for dark paper."""
    used = sorted(set(re.findall(r"var\(--c-([0-9a-f]{6}),", page)))
    light = "".join(f"--c-{color}:#{color};" for color in used)
    return light, "".join(f"--c-{color}:{_dark(color)};" for color in used)


def _variable(color: str) -> str:
    return f"c-{color[1:]}"


def _dark(color: str) -> str:
    """Greys from ink to paper, lines lighter, everything else as it is."""
    if len({color[:2], color[2:4], color[4:]}) == 1:
        share = int(color[:2], 16) / 255
        return "#" + "".join(f"{round(i + share * (p - i)):02x}" for i, p in zip(INK, PAPER, strict=True))
    return LIGHTER.get(f"#{color}", f"#{color}")
