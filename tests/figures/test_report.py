"""Claim: a report is one file that reaches for nothing else, whose names are text, and the same for the same store."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser

import pytest

from studies.report.markup import Html, element, joined
from studies.report.page import page
from studies.report.svg import inlined, theme
from studies.sources.source import open_source

VOID = {"meta", "input", "br", "img", "link", "hr"}


class Page(HTMLParser):
    """Elements, attributes and text; checks that elements end as they began."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def written(made) -> str:
    return page(open_source(made.path))


def test_page__is_the_same_for_the_same_store(made, written) -> None:
    assert page(open_source(made.path)) == written


def test_page__reaches_for_nothing(written) -> None:
    assert not re.search(r"https?://", written)
    for tag, attributes in Page(written).seen:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        assert "src" not in attributes
        for name in ("href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in written
    assert not re.search(r"url\((?!#)", written)
    assert "default-src 'none'" in written.replace("&#x27;", "'")


def test_page__names_from_a_store_are_text(written) -> None:
    found = Page(written)
    assert "img" not in [tag for tag, _ in found.seen]
    text = "".join(found.text)
    assert "What </script><img src=x onerror=alert(1)>$x does." in text  # the summary
    assert text.count("BadInput: </script><img") == 1  # the failed run's error
    assert [tag for tag, _ in found.seen].count("script") == 2  # the page's own, and the numbers of one explorer


def test_page__says_what_is_not_there(written) -> None:
    text = "".join(Page(written).text)
    assert "6 runs finished, 1 failed, 1 not computed yet." in text
    assert "1 runs failed" in text
    assert "targets is not drawn" in text


def test_page__warns_of_few_seeds_and_of_other_code(made, tmp_path) -> None:
    text = page(open_source(made.path, select=["seed=0"]), figures=["snr"])
    assert "2 of 2 configurations have one seed" in text
    assert "over samples" in text
    two = page(open_source(made.path, select=["seed=0", "seed=1"]), figures=["snr"])
    assert "have two seeds" in two


def test_page__ids_are_unique_and_every_reference_has_one(written) -> None:
    found = Page(written).seen
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', written))
    assert {one or other for one, other in used} <= set(ids)


def test_report__writes_one_file_and_never_over_another(made, qnoise, tmp_path) -> None:
    out = tmp_path / "report.html"
    assert qnoise("report", made.path, "--output", out, "--figure", "snr")[0] == 0
    before = out.read_bytes()
    code, _, error = qnoise("report", made.path, "--output", out, "--figure", "pareto")
    assert code == 2
    assert "never replaces a file" in error
    assert out.read_bytes() == before
    assert qnoise("report", made.path, "--output", out, "--figure", "snr", "--replace")[0] == 0
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_report__of_a_store_without_runs_says_so(made, qnoise, tmp_path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(made.path, copy)
    for file in (copy / "runs").iterdir():
        file.unlink()
    assert qnoise("report", copy, "--output", tmp_path / "report.html")[0] == 0
    text = (tmp_path / "report.html").read_text()
    assert "No run has finished" in text
    assert "7 runs have not been computed yet" in text


def test_element__escapes_all_but_html() -> None:
    assert element("p", "a<b", Html("<i>c</i>"), title='"x"') == '<p title="&quot;x&quot;">a&lt;b<i>c</i></p>'
    assert element("input", hidden=True, disabled=False) == "<input hidden>"
    assert joined("<", element("br")) == "&lt;<br>"


def test_inlined__colours_follow_the_theme_and_ids_are_its_own() -> None:
    svg = (
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9pt" viewBox="0 0 1 1">'
        b'<!-- <b> --><g id="a" style="fill: #ffffff; stroke: #0072b2"/><use xlink:href="#a"/></svg>'
    )
    found = inlined(svg, "f0", "a < b")
    assert found == (
        '<svg viewBox="0 0 1 1" role="img" aria-label="a &lt; b"><g id="f0-a" style="fill: var(--c-ffffff, #ffffff); '
        'stroke: var(--c-0072b2, #0072b2)"/><use href="#f0-a"/></svg>'
    )
    light, dark = theme(found)
    assert light == "--c-0072b2:#0072b2;--c-ffffff:#ffffff;"
    assert dark == "--c-0072b2:#5ab4ec;--c-ffffff:#17191d;"
