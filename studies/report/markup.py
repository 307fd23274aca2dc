"""HTML by construction: text is escaped unless it is HTML already."""

from __future__ import annotations

import html


class Html(str):
    """Text that is HTML; everything else is escaped where it becomes part of an element."""

    __slots__ = ()


VOID = {"input", "meta", "br"}
"""Elements without content."""


def element(name: str, *children: str, **attributes: str | bool) -> Html:
    """An element; a trailing underscore of an attribute is dropped, others become dashes.

    Args:
        name: of the element.
        children: HTML as it is, other text escaped.
        attributes: text is escaped; True stands alone, False is left out.
    """
    told = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Html(f"<{name}{told}>")
    return Html(f"<{name}{told}>{joined(*children)}</{name}>")


def joined(*children: str) -> Html:
    """Pieces one after another, escaped where they are no HTML."""
    return Html("".join(child if isinstance(child, Html) else html.escape(child) for child in children))


def _attribute(key: str, value: str | bool) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{html.escape(value)}"'
