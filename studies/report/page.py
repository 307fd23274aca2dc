"""The page: what was run, tables, figures, provenance and warnings, with its style and script inside."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib import resources

from studies.report.drawings import drawings
from studies.report.explorer import explorers
from studies.report.markup import Html, element, joined
from studies.report.provenance import provenance, warnings_of
from studies.report.svg import theme
from studies.report.tables import asked, failures, results, run_list
from studies.sources.source import Part, Source

DARK = ':root[data-theme="dark"]'
SYSTEM_DARK = ':root:not([data-theme="light"])'


def page(source: Source, figures: Sequence[str] = ()) -> str:
    """The whole file: the same text for the same source.

    Args:
        source: what is reported.
        figures: by name; of each study its own if empty, and where it names none all that can be drawn.
    """
    parts = joined(*(_part(part, figures, f"s{index}") for index, part in enumerate(source.parts)))
    title = f"qnoise report: {source.name}"
    header = element(
        "header",
        element("h1", title),
        element("button", "theme", type="button", id="theme", hidden=True),
        element("nav", _contents(source), aria_label="Studies") if len(source.parts) > 1 else Html(""),
    )
    body = element("body", header, element("main", parts), element("script", _script()))
    return "\n".join(
        ["<!doctype html>", '<html lang="en">', _head(title, parts), body, "</html>", ""],
    )


def _head(title: str, parts: str) -> Html:
    light, dark = theme(parts)
    own = Html(
        f"{_data('page.css')}\n:root{{{light}}}\n@media (prefers-color-scheme: dark){{{SYSTEM_DARK}{{{dark}}}}}\n"
        f"{DARK}{{{dark}}}\n@media print{{:root:root{{{light}}}}}"
    )
    digest = base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", own),
    )


def _contents(source: Source) -> Html:
    # two studies of one name differ in what they ask
    seen = [part.name for part in source.parts]
    names = [n if seen.count(n) == 1 else f"{n} ({seen[: i + 1].count(n)})" for i, n in enumerate(seen)]
    links = (element("a", name, href=f"#s{index}") for index, name in enumerate(names))
    return element("ul", *(element("li", link) for link in links))


def _part(part: Part, figures: Sequence[str], name: str) -> Html:
    named = tuple(figures) or (part.study.figures if part.study else ())
    drawn = list(drawings(part.runs, named, name)) if part.runs else []
    said = warnings_of(part) + [f"{one.name} is not drawn: {one.lacks}" for one in drawn if one.lacks]
    pieces = [
        element("h2", part.name),
        element("p", part.study.summary, class_="summary") if part.study and part.study.summary else Html(""),
        element("p", _state(part)),
        _warnings(said),
        element("section", element("h3", "What was run"), asked(part)) if part.study else Html(""),
    ]
    if part.runs:
        pieces.append(element("section", element("h3", "Results"), results(part.runs)))
        views = [one.content for one in drawn if one.content] + explorers(part.runs, name)
        pieces.append(element("section", element("h3", "Figures"), *views))
    if part.failures:
        pieces.append(element("section", element("h3", "Failed runs"), failures(part.failures)))
    if part.runs:
        runs = element("details", element("summary", "Every run"), run_list(part.runs))
        pieces.append(element("section", element("h3", "Provenance"), provenance(part.runs), runs))
    return element("article", *pieces, id=name)


def _state(part: Part) -> str:
    counts = [f"{len(part.runs)} runs finished", f"{len(part.failures)} failed", f"{part.missing} not computed yet"]
    return ", ".join(counts) + "."


def _warnings(said: Sequence[str]) -> Html:
    if not said:
        return Html("")
    items = element("ul", *(element("li", one) for one in said))
    return element("aside", element("h3", "Warnings"), items, class_="warnings")


def _script() -> Html:
    return Html(_data("page.js"))


def _data(name: str) -> str:
    text = resources.files("studies.report").joinpath(name).read_text(encoding="utf-8")
    return re.sub(r"\n{2,}", "\n", text.strip())
