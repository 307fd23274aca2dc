"""What was found of each claim: one record per endpoint and subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from studies.claims.claim import Claim
from studies.claims.verdict import Finding, find, holm

Record = dict[str, Any]

Values = Mapping[tuple[str, str], Sequence[Mapping[str, float]]]
"""(claim, subject) -> the endpoints' values, seed by seed."""


def claim_records(claims: Sequence[Claim], values: Values) -> list[Record]:
    """One record per claim, endpoint and subject, with the verdict of its interval and Holm's over all of them."""
    rows: list[tuple[Record, Finding]] = []
    for claim in claims:
        for setting in claim.settings:
            found = values[claim.name, setting.subject]
            for endpoint in claim.endpoints:
                of = [seed[endpoint.name] for seed in found]
                finding = find(of, endpoint.smallest, endpoint.direction, simultaneous=claim.intervals)
                record = {
                    "claim": claim.name, "endpoint": endpoint.name, "subject": setting.subject, "unit": endpoint.unit,
                    "claimed": endpoint.direction.value, "smallest": endpoint.smallest, "estimate": finding.estimate,
                    "low": finding.low, "high": finding.high, "seeds": len(of), "verdict": finding.verdict.value,
                }  # fmt: skip
                rows.append((record, finding))
    adjusted = holm([finding for _, finding in rows])
    return [{**record, "verdict_holm": verdict.value} for (record, _), verdict in zip(rows, adjusted, strict=True)]


HEADER = ["claim", "endpoint", "subject", "claimed", "found", "simultaneous 95 %", "seeds", "verdict", "with Holm"]


def claim_rows(records: Sequence[Record]) -> list[list[str]]:
    """The table's cells."""
    return [
        [
            record["claim"], record["endpoint"], record["subject"],
            f"{'>' if record['claimed'] == 'above' else '<'} {record['smallest']:g}{_unit(record)}",
            _number(record["estimate"]), f"{_number(record['low'])} .. {_number(record['high'])}", str(record["seeds"]),
            record["verdict"], record["verdict_holm"],
        ]
        for record in records
    ]  # fmt: skip


def _unit(record: Record) -> str:
    return "" if record["unit"] == "1" else f" {record['unit']}"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3g}"
