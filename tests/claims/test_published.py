"""Claim: committed values are finished ones of claims as they are, verdicts are made of them, the rest has not run."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from samplers import BadInput
from studies.claims.claim import Claim, Endpoint, Setting, UntestableClaim
from studies.claims.command import claim_config
from studies.claims.published import committed, finished, summary, tables
from studies.claims.verdict import Direction
from studies.recipes.recipe import Source

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Source("A paper", "somebody", "somewhere")
SEEDS = (2.0, 2.1, 1.9)


def claim(name: str = "gains", endpoint: str = "gain") -> Claim:
    endpoints = (Endpoint(endpoint, "a gain", "dB", Direction.ABOVE, 1.0),)
    return Claim(name, "It gains.", SOURCE, endpoints, (Setting("digits-unet"), Setting("digits-dit")), dict, seeds=3)


EVERY = {
    "gains": claim(), "other": claim("other"), "beyond": UntestableClaim("beyond", "S.", SOURCE, "FID", "No model."),
}  # fmt: skip


def write(folder: Path, config: dict, *, subject: str = "digits-unet", seeds=SEEDS) -> None:
    folder.mkdir()
    (folder / "claim.json").write_text(json.dumps(config))
    for seed, value in enumerate(seeds):
        (folder / f"{subject}-{seed}.json").write_text(json.dumps({"gain": value}))


def test_committed__is_what_the_generator_writes() -> None:
    spec = importlib.util.spec_from_file_location("generate_claims", ROOT / "docs" / "generate_claims.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    found = made.results([])
    assert made.text(found) == made.RESULTS.read_text(encoding="utf-8")
    for path, page in made.pages(found).items():
        assert page == path.read_text(encoding="utf-8"), path.name


def test_finished__takes_subjects_whose_seeds_are_all_there(tmp_path) -> None:
    config = claim_config(EVERY["gains"], 2, False)
    write(tmp_path / "gains-claim-0", config)
    (tmp_path / "gains-claim-0" / "digits-dit-0.json").write_text('{"gain": 2.0}')  # of three
    assert finished(EVERY, tmp_path) == {
        "gains": {"config": config, "values": {"digits-unet": [{"gain": value} for value in SEEDS]}}
    }


def test_finished__leaves_quick_runs_and_earlier_forms_of_a_claim(tmp_path) -> None:
    write(tmp_path / "gains-claim-0", claim_config(EVERY["gains"], 1, True))
    write(tmp_path / "other-claim-0", claim_config(claim("other", "loss"), 1, False))
    assert finished(EVERY, tmp_path) == {}


def test_committed__judges_what_has_run_and_invents_nothing(tmp_path) -> None:
    write(tmp_path / "gains-claim-0", claim_config(EVERY["gains"], 1, False))
    found = committed(EVERY, finished(EVERY, tmp_path))
    rows = {(row["claim"], row["subject"]): row for row in found["claims"]}
    assert rows["gains", "digits-unet"]["verdict"] == rows["gains", "digits-unet"]["verdict_holm"] == "confirmed"
    assert rows["gains", "digits-unet"]["estimate"] == pytest.approx(2.0)
    for key in (("gains", "digits-dit"), ("other", "digits-unet"), ("other", "digits-dit")):
        row = rows[key]
        assert (row["verdict"], row["verdict_holm"], row["seeds"]) == ("not run yet", "not run yet", 0)
        assert row["estimate"] is row["low"] is row["high"] is None
    text = tables(found)
    assert "1 of 4 endpoints have run" in text
    assert "| `gains` | gain: a gain | digits-unet | > 1 dB | 2 | " in text
    assert "| `other` | gain: a gain | digits-dit | > 1 dB | - | - | not run yet | not run yet |" in text
    assert "| S. | FID | A paper (somebody, somewhere) | No model. |" in text


def test_summary__counts_the_adjusted_verdicts_of_a_subject() -> None:
    def record(claim: str, subject: str, verdict: str) -> dict:
        adjusted = "inconclusive" if verdict == "confirmed" else verdict
        return {"claim": claim, "statement": "S.", "subject": subject, "verdict": verdict, "verdict_holm": adjusted}

    found = [record("a", "one", "contradicted"), record("a", "one", "confirmed"), record("b", "two", "not run yet")]
    lines = summary({"claims": found})
    assert lines[0].startswith("2 of 3 endpoints have run")
    assert lines[4:] == [
        "| S. (`a`) | 1 contradicted, 1 inconclusive | - |", "| S. (`b`) | - | not run yet |"
    ]  # fmt: skip


def test_committed__refuses_values_of_a_claim_that_has_changed(tmp_path) -> None:
    write(tmp_path / "gains-claim-0", claim_config(EVERY["gains"], 1, False))
    measured = finished(EVERY, tmp_path)
    with pytest.raises(BadInput, match="of a claim as it is"):
        committed({"gains": claim(endpoint="loss")}, measured)
    with pytest.raises(BadInput, match="of a claim as it is"):
        committed({}, measured)
    measured["gains"]["values"]["digits-unet"].pop()
    with pytest.raises(BadInput, match="3 seeds"):
        committed(EVERY, measured)
