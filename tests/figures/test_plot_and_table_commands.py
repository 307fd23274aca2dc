"""Claim: qnoise plot and qnoise table write what is asked, whole, say what they left out, and refuse the rest."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from studies.figures.tabulate import Cell, tables_of
from studies.sources.numbers import NUMBERS, numbers_of
from studies.sources.source import open_source


def test_plot__writes_the_studys_figures_and_the_same_pdf_twice(made, qnoise, tmp_path) -> None:
    arguments = ["plot", made.path, "--figure", "snr", "--figure", "pareto", "--style", "neurips", "--output"]
    for folder in ("a", "b"):
        code, said, warned = qnoise(*arguments, tmp_path / folder)
        assert code == 0
        assert "left out: 1 failed, 1 not computed yet, 0 of" in warned
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        f"{stem}.{suffix}" for stem in ("pareto-bops", "pareto-weight-bytes", "snr") for suffix in ("pdf", "png")
    ]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert b"CreationDate" not in (tmp_path / "a" / "snr.pdf").read_bytes()
    assert said.count("wrote: ") == 6


def test_plot__list_names_every_figure_without_a_source(qnoise) -> None:
    code, said, _ = qnoise("plot", "--list")
    assert code == 0
    assert "residuals" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--figure", "snrr"], "did you mean snr"),
        (["--style", "nips"], "style must be one of"),
        (["--column", "double"], "column must be one of single"),
        (["--format", "jpeg"], "format must be one of pdf, png, svg"),
        (["--figure", "targets"], "differ in their target only"),
        (["--study", "other"], "the study must be one of tiny"),
        (["--select", "scheme=w2a2"], "one of w4a4, w8a8"),
    ],
)
def test_plot__bad_input_is_exit_code_2(made, qnoise, tmp_path, arguments, says) -> None:
    code, _, error = qnoise("plot", made.path, *arguments, "--output", tmp_path / "out")
    assert code == 2
    assert says in error
    assert not list(tmp_path.glob("out/*.pdf"))


def test_plot__of_one_file_needs_a_figures_name(made, qnoise, tmp_path) -> None:
    code, _, error = qnoise("plot", made.run, "--output", tmp_path)
    assert code == 2
    assert "--figure snr" in error


def test_table__csv_holds_means_over_seeds_in_full(made, qnoise) -> None:
    code, said, _ = qnoise("table", made.path, "--format", "csv")
    assert code == 0
    rows = {row["scheme"]: row for row in csv.DictReader(io.StringIO(said))}
    runs = open_source(made.path).runs
    for scheme, row in rows.items():
        values = [numbers_of(run)["final_sqnr_db"] for run in runs if run.fields["scheme"] == scheme]
        assert float(row["final_sqnr_db"]) == pytest.approx(np.mean(values), abs=0)
        assert row["seeds"] == "3"
        assert float(row["final_sqnr_db_low"]) < float(row["final_sqnr_db"]) < float(row["final_sqnr_db_high"])


def test_table__latex_is_booktabs_with_intervals(made, qnoise, tmp_path) -> None:
    code, _, _ = qnoise("table", made.path, "--rows", "scheme", "--format", "latex", "--output", tmp_path / "t.tex")
    text = (tmp_path / "t.tex").read_text()
    assert code == 0
    assert r"\toprule" in text
    assert text.count(r"\pm") == 3  # two rows and the note


def test_tables_of__a_field_that_follows_from_another_stands_beside_it() -> None:
    cells = [
        Cell({"scheme": scheme, "sampler": sampler, "eta": eta}, mean, mean - 1, mean + 1, 3)
        for mean, (scheme, sampler, eta) in enumerate(
            (scheme, *sampler) for scheme in ("w8a8", "w4a4") for sampler in (("ddim", 1.0), ("ddpm", None))
        )
    ]
    (table,) = tables_of(cells, "final_sqnr_db", ("scheme",), "sampler")
    assert table.header == ("scheme", "ddim, η = 1", "ddpm")
    assert table.rows == (("W8A8", "0.00 ± 1.00", "1.00 ± 1.00"), ("W4A4", "2.00 ± 1.00", "3.00 ± 1.00"))


@pytest.mark.parametrize("value", [name for name in NUMBERS if name != "decoded_sqnr_db"])
@pytest.mark.parametrize("form", ["text", "html", "markdown"])
def test_table__every_value_has_every_form(made, qnoise, value, form) -> None:
    code, said, _ = qnoise("table", made.path, "--value", value, "--format", form)
    assert code == 0
    assert "W4A4" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--value", "fid"], "a value must be one of"),
        (["--value", "decoded_sqnr_db"], "run a latent model"),
        (["--rows", "shceme"], "did you mean scheme"),
        (["--rows", "scheme", "--columns", "scheme"], "different fields"),
        (["--format", "pdf"], "format must be one of"),
        (["--rows", "seed"], "a table is over seeds"),
    ],
)
def test_table__bad_input_is_exit_code_2(made, qnoise, arguments, says) -> None:
    code, _, error = qnoise("table", made.path, *arguments)
    assert code == 2
    assert says in error
