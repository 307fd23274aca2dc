"""What was found of each claim: one record per endpoint and subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from studies.claims.claim import Claim, Endpoint, Setting, UntestableClaim
from studies.claims.verdict import Finding, find, holm
from studies.documents import NONE
from studies.recipes.recipe import Source

Record = dict[str, Any]

Values = Mapping[tuple[str, str], Sequence[Mapping[str, float]]]
"""(claim, subject) -> the endpoints' values, seed by seed."""

NOT_RUN = "not run yet"
"""In place of a verdict where there are no values; never one of the verdicts."""


def claim_records(claims: Sequence[Claim], values: Values) -> list[Record]:
    """One record per claim, endpoint and subject, with the verdict of its interval and Holm's over all of them.

    Without values a record has no estimate, and is no part of Holm's family.
    """
    rows: list[tuple[Record, Finding | None]] = []
    for claim in claims:
        for setting in claim.settings:
            found = values.get((claim.name, setting.subject))
            for endpoint in claim.endpoints:
                if found is None:
                    finding, seeds = None, 0
                else:
                    of = [seed[endpoint.name] for seed in found]
                    finding = find(of, endpoint.smallest, endpoint.direction, simultaneous=claim.intervals)
                    seeds = len(of)
                rows.append((_record(claim, setting, endpoint, finding, seeds), finding))
    adjusted = iter(holm([finding for _, finding in rows if finding is not None]))
    return [
        {**record, "verdict_holm": NOT_RUN if finding is None else next(adjusted).value} for record, finding in rows
    ]


def _record(claim: Claim, setting: Setting, endpoint: Endpoint, finding: Finding | None, seeds: int) -> Record:
    return {
        "claim": claim.name, "statement": claim.statement, "paper": paper(claim.source), "subject": setting.subject,
        "endpoint": endpoint.name, "meaning": endpoint.meaning, "unit": endpoint.unit,
        "claimed": endpoint.direction.value, "smallest": endpoint.smallest,
        "estimate": None if finding is None else finding.estimate, "low": None if finding is None else finding.low,
        "high": None if finding is None else finding.high, "seeds": seeds,
        "verdict": NOT_RUN if finding is None else finding.verdict.value,
    }  # fmt: skip


def untestable_records(claims: Sequence[UntestableClaim]) -> list[Record]:
    """One record per claim that cannot be tested here."""
    return [
        {
            "claim": claim.name, "statement": claim.statement, "paper": paper(claim.source),
            "endpoint": claim.endpoint, "verdict": "not testable here", "reason": claim.reason,
        }
        for claim in claims
    ]  # fmt: skip


def paper(source: Source) -> str:
    """A source in a line."""
    return f"{source.title} ({source.authors}, {source.venue})"


HEADER = ["claim", "endpoint", "subject", "claimed", "found", "simultaneous 95 %", "seeds", "verdict", "with Holm"]


def claim_rows(records: Sequence[Record]) -> list[list[str]]:
    """The table's cells."""
    return [
        [
            record["claim"], record["endpoint"], record["subject"], claimed(record), number(record["estimate"]),
            interval(record), str(record["seeds"]), record["verdict"], record["verdict_holm"],
        ]
        for record in records
    ]  # fmt: skip


UNTESTABLE_HEADER = ["not testable here", "what the paper measured", "reason"]


def untestable_rows(records: Sequence[Record]) -> list[list[str]]:
    """Cells of those that cannot be tested."""
    return [[record["claim"], record["endpoint"], record["reason"]] for record in records]


def claimed(record: Record) -> str:
    """Direction and smallest effect: ``> 0.5 dB``."""
    unit = "" if record["unit"] == "1" else f" {record['unit']}"
    return f"{'>' if record['claimed'] == 'above' else '<'} {record['smallest']:g}{unit}"


def interval(record: Record) -> str:
    """Both ends."""
    return f"{number(record['low'])} .. {number(record['high'])}"


def number(value: float | None) -> str:
    """Three digits, or a dash where there is no value."""
    return NONE if value is None or value != value else f"{value:.3g}"
