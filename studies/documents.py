"""Tables as documents: LaTeX, HTML and Markdown, and places in pages that generators fill."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

NONE = "-"
"""In place of what there is not."""

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}", "±": r"$\pm$", "<": r"$<$", ">": r"$>$",
    "η": r"$\eta$", "⁹": "$^9$",
}  # fmt: skip

_NUMBER = re.compile(r"(?<![\w.])[+-]?\d+(\.\d+)?(e[+-]?\d+)?(?: ± \d+\.\d+)?(?![\w.])|(?<!\S)-(?= )")
"""And a minus before a name."""

_STYLE = """
table.qnoise { border-collapse: collapse; font: 13px sans-serif; margin: 0 0 1.5em }
table.qnoise caption { text-align: left; font-weight: bold; padding: 0.3em 0 }
table.qnoise th, table.qnoise td { padding: 0.15em 0.6em; text-align: right; white-space: nowrap }
table.qnoise .text { text-align: left; white-space: normal }
table.qnoise thead th { border-top: 2px solid; border-bottom: 1px solid }
table.qnoise tbody tr:last-child td { border-bottom: 2px solid }
"""


@dataclass(frozen=True)
class Table:
    """A title, a header, and rows of as many cells; the first ``texts`` columns are words, the others numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1

    @classmethod
    def of_words(cls, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
        """A table without a column of numbers."""
        return cls(title, tuple(header), tuple(map(tuple, rows)), len(header))

    def only(self, columns: Sequence[str]) -> Table:
        """Some of its columns, in its own order."""
        kept = [index for index, name in enumerate(self.header) if name in columns]
        rows = tuple(tuple(row[index] for index in kept) for row in self.rows)
        return replace(self, header=tuple(self.header[index] for index in kept), rows=rows)


def latex(tables: Sequence[Table], notes: Sequence[str]) -> str:
    r"""A file for ``\input``: a float per table, notes in the first one's caption.

    It needs ``\usepackage{booktabs}`` and nothing else.
    """
    parts = [r"% needs \usepackage{booktabs}"]
    for index, table in enumerate(tables):
        said = "" if index else " " + latex_text(" ".join(notes))
        columns = "l" * table.texts + "r" * (len(table.header) - table.texts)
        lines = [" & ".join(map(latex_text, line)) + r" \\" for line in (table.header, *table.rows)]
        parts += [
            r"\begin{table}", r"\centering", r"\scriptsize", r"\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{latex_text(table.title)}.{said}}}",
            rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule",
            r"\end{tabular}", r"\end{table}",
        ]  # fmt: skip
    return "\n".join(parts) + "\n"


def latex_text(text: str) -> str:
    """Text in which nothing is a command; numbers are set as mathematics, so that a minus is one."""
    parts, end = [], 0
    for found in _NUMBER.finditer(text):
        parts += [_escaped(text[end : found.start()]), f"${found[0].replace('±', chr(92) + 'pm')}$"]
        end = found.end()
    return "".join([*parts, _escaped(text[end:])])


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def html_page(title: str, tables: Sequence[Table], notes: Sequence[str]) -> str:
    """A page of its own: tables with their style, and nothing from elsewhere."""
    parts = [
        "<!doctype html>", '<html lang="en">', '<head><meta charset="utf-8">', f"<title>{html.escape(title)}</title>",
        f"<style>{_STYLE}</style></head>", "<body>",
    ]  # fmt: skip
    for table in tables:
        parts += [
            '<table class="qnoise">', f"<caption>{html.escape(table.title)}</caption>",
            f"<thead>{_html_row('th', table.header, table.texts)}</thead>", "<tbody>",
            *(_html_row("td", row, table.texts) for row in table.rows), "</tbody>", "</table>",
        ]  # fmt: skip
    parts += [f"<p>{html.escape(note)}</p>" for note in notes]
    return "\n".join([*parts, "</body>", "</html>", ""])


def _html_row(tag: str, cells: Sequence[str], texts: int) -> str:
    opened = [f'<{tag} class="text">'] * texts + [f"<{tag}>"] * (len(cells) - texts)
    return "<tr>" + "".join(f"{o}{html.escape(cell)}</{tag}>" for o, cell in zip(opened, cells, strict=True)) + "</tr>"


def markdown(table: Table) -> list[str]:
    """Lines of a Markdown table, without its title."""
    lines = [table.header, (*["---"] * table.texts, *["---:"] * (len(table.header) - table.texts)), *table.rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def put(page: str, name: str, text: str) -> str:
    """The page with a text in place of what stands between ``<!-- name:begin -->`` and ``<!-- name:end -->``."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, rest = page.split(begin)
    return f"{before}{begin}\n{text}{end}{rest.split(end)[1]}"
