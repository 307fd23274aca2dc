"""What of a results folder is finished, and the committed form of it.

The committed values are per seed; intervals and verdicts are made of them anew, so none can be stale. Values of a claim
that has changed since are refused: a claim that changes has another name.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samplers.errors import BadInput
from studies.claims.claim import Claim, Published, UntestableClaim
from studies.claims.command import CLAIM, claim_config, numbers, seed_file
from studies.claims.table import NOT_RUN, Record, claim_records, claimed, interval, number, untestable_records
from studies.console import jsonable
from studies.documents import NONE, Table, markdown

Measured = dict[str, Any]
"""Claim -> ``config`` (all that determined the values) and ``values``: subject -> one mapping per seed."""


def finished(every: Mapping[str, Published], results: Path) -> Measured:
    """Values of all subjects of which every seed has run in full, from the folders of ``qnoise claims``."""
    measured: Measured = {}
    for claim in every.values():
        if not isinstance(claim, Claim):
            continue
        for folder in sorted(results.glob(f"{claim.name}-claim-*")):
            config = json.loads((folder / CLAIM).read_text(encoding="utf-8"))
            if config != claim_config(claim, config["threads"], False):
                continue
            values = {}
            for setting in claim.settings:
                paths = [seed_file(folder, setting, seed) for seed in range(claim.seeds)]
                if all(path.exists() for path in paths):
                    values[setting.subject] = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
            if len(values) > len(measured.get(claim.name, {}).get("values", {})):
                measured[claim.name] = {"config": config, "values": values}
    return measured


def committed(every: Mapping[str, Published], measured: Measured) -> dict[str, Any]:
    """Values, and what follows from them, as plain JSON values.

    Raises:
        BadInput: values of a claim that is not there or has changed.
    """
    testable = [claim for claim in every.values() if isinstance(claim, Claim)]
    values = {}
    for name, found in measured.items():
        claim = every.get(name)
        stored = found["config"]
        if not isinstance(claim, Claim) or stored != claim_config(claim, stored["threads"], False):
            raise BadInput("committed values must be of a claim as it is", got=name, fix="measure it again")
        for subject, seeds in found["values"].items():
            if len(seeds) != claim.seeds:
                got = f"{len(seeds)} of {subject}"
                raise BadInput(f"{name} has {claim.seeds} seeds", got=got, fix="run the others")
            values[name, subject] = [numbers(seed) for seed in seeds]
    untestable = [claim for claim in every.values() if isinstance(claim, UntestableClaim)]
    return {
        "measured": measured, "claims": jsonable(claim_records(testable, values)),
        "not_testable": untestable_records(untestable),
    }  # fmt: skip


def summary(found: Mapping[str, Any]) -> list[str]:
    """Markdown for a front page: of every claim, how many of a subject's endpoints have which verdict, Holm's.

    Args:
        found: ``committed``'s.
    """
    records = found["claims"]
    subjects = list(dict.fromkeys(record["subject"] for record in records))
    verdicts = {(r["claim"], r["subject"]): Counter[str]() for r in records}
    for record in records:
        verdicts[record["claim"], record["subject"]][record["verdict_holm"]] += 1
    rows = [
        [f"{text} (`{name}`)", *(_counted(verdicts.get((name, subject), Counter())) for subject in subjects)]
        for name, text in {r["claim"]: r["statement"] for r in records}.items()
    ]
    return [_ran(records), "", *markdown(Table.of_words("", ["claim", *subjects], rows))]


def _ran(records: Sequence[Record]) -> str:
    ran = sum(record["verdict"] != NOT_RUN for record in records)
    return f"{ran} of {len(records)} endpoints have run; Holm's rule is over these."


def _counted(verdicts: Counter[str]) -> str:
    if len(verdicts) == 1 and verdicts.total() == 1:
        return next(iter(verdicts))
    return ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common()) or NONE


_HEADER = ["claim", "endpoint", "subject", "claimed", "found", "simultaneous 95 %", "verdict", "with Holm"]


def tables(found: Mapping[str, Any]) -> str:
    """Markdown of the committed form: a section per paper, then what cannot be tested.

    Args:
        found: ``committed``'s.
    """
    records = found["claims"]
    parts = [_ran(records), ""]
    for paper in sorted({record["paper"] for record in records}):
        own = [record for record in records if record["paper"] == paper]
        parts += [f"### {paper}", ""]
        parts += [f"- `{name}`: {text}" for name, text in {r["claim"]: r["statement"] for r in own}.items()]
        rows = [
            [
                f"`{r['claim']}`", f"{r['endpoint']}: {r['meaning']}", r["subject"], claimed(r), number(r["estimate"]),
                NONE if r["low"] is None else interval(r), r["verdict"], r["verdict_holm"],
            ]
            for r in own
        ]  # fmt: skip
        parts += ["", *markdown(Table.of_words(paper, _HEADER, rows)), ""]
    rows = [[r["statement"], r["endpoint"], r["paper"], r["reason"]] for r in found["not_testable"]]
    untestable = Table.of_words("Not testable here", ["claim", "the paper measured", "paper", "reason"], rows)
    parts += [f"### {untestable.title}", "", *markdown(untestable), ""]
    return "\n".join(parts)
