"""Claim: every claim is complete before it runs, goes on where it stopped, and names the subject of each verdict."""

from __future__ import annotations

import json
import pkgutil
import sys

import numpy as np
import pytest

from samplers import BadInput
from studies import cli
from studies.claims import known
from studies.claims.catalogue import chosen, claims
from studies.claims.claim import SEEDS, TRAINING_SEEDS, Claim, Endpoint, Setting, UntestableClaim
from studies.claims.command import _sized, claim_config
from studies.claims.table import claim_records, claim_rows
from studies.claims.verdict import Direction
from studies.recipes.recipe import Source

SOURCE = Source("a paper", "somebody", "somewhere")
ENDPOINT = Endpoint("gain", "a gain", "dB", Direction.ABOVE, 1.0)


def qnoise(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["qnoise", "claims", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def test_catalogue__has_a_claim_per_file_named_as_the_file() -> None:
    assert {found.name.replace("_", "-") for found in pkgutil.iter_modules(known.__path__)} == set(claims())
    for claim in claims().values():
        assert claim.statement.endswith(".")
        if isinstance(claim, UntestableClaim):
            assert claim.reason.endswith(".")
            continue
        assert claim.seeds >= (TRAINING_SEEDS if claim.trains else SEEDS)
        assert all(np.isfinite(endpoint.smallest) and endpoint.meaning for endpoint in claim.endpoints)
        assert json.loads(json.dumps(claim_config(claim, 1, False))) == claim_config(claim, 1, False)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, claim in claims().items() if isinstance(claim, Claim)])
def test_claim__gives_every_endpoint(name: str, one_thread) -> None:
    claim = _sized(claims()[name], None, quick=True)
    found = claim.measure(claim.settings[0], 0, lambda *_: None)
    assert set(found) == {endpoint.name for endpoint in claim.endpoints}


@pytest.fixture
def measured(monkeypatch) -> list[tuple[str, int]]:
    """One claim whose values are made up; the third is interrupted once."""
    calls: list[tuple[str, int]] = []

    def measure(setting, seed, report) -> dict[str, float]:
        calls.append((setting.subject, seed))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return {"gain": 2.0 + 0.01 * seed, "none": float("nan"), "endless": float("inf")}

    endpoints = (
        ENDPOINT,
        Endpoint("none", "nothing", "1", Direction.BELOW, 0.0),
        Endpoint("endless", "an SQNR without noise", "dB", Direction.ABOVE, 0.0),
    )
    claim = Claim("made-up", "It gains.", SOURCE, endpoints, (Setting("digits-unet"), Setting("digits-dit")), measure)
    beyond = UntestableClaim("beyond", "It is large.", SOURCE, "FID & IS", "No model of that size.")
    monkeypatch.setattr("studies.claims.catalogue.claims", lambda: {"beyond": beyond, "made-up": claim})
    return calls


def test_claims__goes_on_where_it_stopped(monkeypatch, capsys, tmp_path, measured) -> None:
    command = ("--seeds", "3", "--threads", "1", "--out", str(tmp_path))
    assert qnoise(monkeypatch, *command) == 130
    capsys.readouterr()
    assert qnoise(monkeypatch, *command, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    found = printed["claims"]
    assert [(row["claim"], row["verdict"], row["reason"]) for row in printed["not_testable"]] == [
        ("beyond", "not testable here", "No model of that size.")
    ]
    assert [(row["subject"], row["endpoint"], row["verdict"]) for row in found] == [
        ("digits-unet", "gain", "confirmed"), ("digits-unet", "none", "not testable here"),
        ("digits-unet", "endless", "not testable here"),
        ("digits-dit", "gain", "confirmed"), ("digits-dit", "none", "not testable here"),
        ("digits-dit", "endless", "not testable here"),
    ]  # fmt: skip
    assert found[0]["estimate"] == pytest.approx(2.01)
    assert found[1]["estimate"] is None
    assert len(measured) == 7  # six values, and the interrupted one
    assert qnoise(monkeypatch, *command) == 0
    table = capsys.readouterr().out
    assert "confirmed" in table
    assert "> 1 dB" in table
    assert "No model of that size." in table
    assert len(measured) == 7
    (tables,) = tmp_path.glob("claims-*")
    assert {path.name for path in tables.iterdir()} == {"claims.json", "claims.tex", "claims.html"}
    assert "FID \\& IS" in (tables / "claims.tex").read_text()
    assert '<td class="text">&gt; 1 dB</td>' in (tables / "claims.html").read_text()
    assert json.loads((tables / "claims.json").read_text()) == printed
    assert qnoise(monkeypatch, "--seeds", "4", *command[2:]) == 0
    assert len(measured) == 9  # more seeds are added to those that are there


def test_claims__bad_input_is_one_line_and_exit_code_2(monkeypatch, capsys, tmp_path) -> None:
    assert qnoise(monkeypatch, "--claim", "snr-falls", "--out", str(tmp_path / "results")) == 2
    assert "one of snr-falls-late" in capsys.readouterr().err
    assert qnoise(monkeypatch, "--seeds", "2", "--out", str(tmp_path / "results")) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Claim("c", "S.", SOURCE, (), (Setting("digits-unet"),), dict), "endpoints must have different names"),
        (lambda: Claim("c", "S.", SOURCE, (ENDPOINT,), (), dict), "subjects must have different names"),
        (lambda: Claim("c", "S.", SOURCE, (ENDPOINT,), (Setting("a"),), dict, seeds=2), "at least 3 seeds"),
        (lambda: UntestableClaim("c", "S.", SOURCE, "FID", ""), "says what and why"),
        (lambda: chosen(("snr-falls-late", "snr-falls-late")), "must differ"),
    ],
)
def test_claim__refuses_what_is_none(make, says) -> None:
    with pytest.raises(BadInput, match=says):
        make()


def test_table__names_the_subject_and_both_verdicts() -> None:
    claim = Claim("c", "S.", SOURCE, (ENDPOINT,), (Setting("a"), Setting("b")), dict)
    values = {("c", "a"): [{"gain": v} for v in (2.0, 2.1, 1.9)], ("c", "b"): [{"gain": v} for v in (0.2, 2.1, 1.9)]}
    records = claim_records([claim], values)
    assert [(record["subject"], record["verdict"]) for record in records] == [("a", "confirmed"), ("b", "inconclusive")]
    assert all(len(row) == 9 for row in claim_rows(records))
    # the interval is that of two endpoints together
    assert records[0]["high"] - records[0]["estimate"] == pytest.approx(6.205 * 0.1 / np.sqrt(3), rel=1e-3)


def test_table__leaves_what_has_not_run_out_of_holms_family() -> None:
    one = Claim("one", "S.", SOURCE, (ENDPOINT,), (Setting("a"),), dict)
    other = Claim("other", "S.", SOURCE, (ENDPOINT,), (Setting("a"), Setting("b")), dict)
    values = {("one", "a"): [{"gain": v} for v in (1.693, 2.0, 2.307)]}  # p of 0.03: enough for a family of one
    records = claim_records([one, other], values)
    assert [record["verdict_holm"] for record in records] == ["confirmed", "not run yet", "not run yet"]
    assert claim_rows(records)[1][4:6] == ["-", "- .. -"]
