"""An extension of griffe: docstrings as this project writes them become Markdown.

``:class:`NAME``` becomes a link where the site documents NAME, else plain code; a doctest becomes a block of code; an
enumeration lists those of its members that have no docstring of their own.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Class, Extension, Object

ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`~?([\w.]+)`")
DOCTEST = re.compile(r"^>>> .*?(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


class Docstrings(Extension):
    """Rewrites every docstring once."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            text = ROLE.sub(lambda found: _link(obj, found[1]), obj.docstring.value)
            obj.docstring.value = DOCTEST.sub(r"```pycon\n\g<0>\n```", text)

    def on_class(self, *, cls: Class, **_: Any) -> None:
        """Add the members of an enumeration to its docstring."""
        if cls.docstring is None or not any(str(base).endswith("Enum") for base in cls.bases):
            return
        members = [name for name, found in cls.attributes.items() if name.isupper() and found.docstring is None]
        if members:
            listed = "\n".join(f"- `{name} = {cls[name].value}`" for name in members)
            cls.docstring.value = f"{cls.docstring.value}\n\n{listed}"


def _link(obj: Object, name: str) -> str:
    """A link to what NAME is where it is written: here, in a class or module around it, or a whole path."""
    first, dot, rest = name.partition(".")
    path, scope = name, obj
    while scope is not None:
        if first in scope.members:
            found = scope.members[first]
            path = (found.target_path if found.is_alias else found.path) + dot + rest
            break
        scope = scope.parent
    return f'<autoref identifier="{path}" optional><code>{name}</code></autoref>'
