r"""Claim: tables in LaTeX and HTML hold the same cells, escaped, in a form that is read as it stands."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from studies.documents import Table, html_page, latex, latex_text, markdown
from studies.scoreboard.table import HEADER, NOTES, PAPER

AWKWARD = "my_module:A&B <50 %> #1 {x} $5 ^~\\"

TABLES = [
    Table("digits-unet, w4a8", HEADER[:4], (
        ("s_n", "3", "1", "-12.31 ± 0.42"), (AWKWARD, "-", "-", "diverged (1 of 3)"),
    )),
    Table("digits-dit, w4a8", HEADER[:2], (("minmax", "5"),)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s_n", r"s\_n"),
        ("-12.31 ± 0.42", r"$-12.31 \pm 0.42$"),
        ("+0.5", "$+0.5$"),
        ("6.1e-05", "$6.1e-05$"),
        ("ptq4dit, w4a8", "ptq4dit, w4a8"),
        ("d2-dpm", "d2-dpm"),
        ("a@uniform (93.0% of its BOPs)", r"a@uniform ($93.0$\% of its BOPs)"),
        ("-", "-"),
        ("- minmax", "$-$ minmax"),
        ("\\{}", r"\textbackslash{}\{\}"),
        ("±: half", r"$\pm$: half"),
    ],
)
def test_latex_text__sets_numbers_as_mathematics_and_escapes_the_rest(text, expected) -> None:
    assert latex_text(text) == expected


def test_latex__is_a_float_per_table_that_booktabs_alone_can_set() -> None:
    found = latex(TABLES, NOTES)
    assert found.count(r"\begin{table}") == found.count(r"\end{tabular}") == 2
    for rule in ("toprule", "midrule", "bottomrule"):
        assert found.count(rf"\{rule}") == 2
    rows = [line for line in found.splitlines() if line.endswith(r" \\")]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [3, 3, 3, 1, 1]
    assert r"$-12.31 \pm 0.42$" in rows[1]
    assert found.isascii()
    without = found.replace(r"\textbackslash{}", "")
    assert not re.search(r"(?<!\\)[#^~_]", without)
    assert without.count("{") == without.count("}")
    assert found.count("interval over seeds") == 1  # what holds for all tables is said once


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_latex__compiles_as_an_input(tmp_path) -> None:
    (tmp_path / "table.tex").write_text(latex(TABLES, NOTES), encoding="utf-8")
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table}\end{document}"
    (tmp_path / "main.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0


class Cells(HTMLParser):
    """Text of cells and captions, and every address."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attributes) -> None:
        self.addresses += [value for name, value in attributes if name in ("href", "src")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if self.open and self.open[-1] in ("td", "th", "caption"):
            self.found.append(data)


def test_html__holds_every_cell_and_nothing_from_elsewhere() -> None:
    page = html_page("a <board>", TABLES, NOTES)
    cells = Cells()
    cells.feed(page)
    cells.close()
    assert cells.open == cells.addresses == []
    expected = [
        text for table in TABLES for text in (table.title, *table.header, *(c for row in table.rows for c in row))
    ]
    assert cells.found == expected
    assert "<title>a &lt;board&gt;</title>" in page
    assert page.index('charset="utf-8"') < page.index("±")


def test_only__keeps_cells_under_their_names() -> None:
    table = Table("t", HEADER, (tuple(f"cell of {name}" for name in HEADER),)).only(PAPER)
    assert table.header == PAPER
    assert table.rows == (tuple(f"cell of {name}" for name in PAPER),)


def test_markdown__keeps_its_columns() -> None:
    lines = markdown(Table("", ("a|b", "c"), (("1", "2"),)))
    assert lines == ["| a\\|b | c |", "| --- | ---: |", "| 1 | 2 |"]


def test_words__escape_what_their_language_would_read() -> None:
    table = Table.of_words("t", ["p", "q", "r"], [["a_b", "50 % & <x", "x|y"]])
    assert markdown(table)[1:] == ["| --- | --- | --- |", "| a_b | 50 % & <x | x\\|y |"]
    assert r"a\_b & $50$ \% \& $<$x & x\textbar{}y \\" in latex([table], ())
    assert r"\begin{tabular}{lll}" in latex([table], ())
    assert '<td class="text">50 % &amp; &lt;x</td>' in html_page("t", [table], ())
