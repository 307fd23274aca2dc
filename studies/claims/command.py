"""``qnoise claims``: every claim measured over its seeds, one file per claim, subject and seed, then the table.

The folder is named by what determines the values, a seed's file is put in place whole, and a call goes on where another
stopped. The tables of a call are in a folder of their own, as JSON, LaTeX and HTML.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studies.claims.claim import Claim, Report, Setting, UntestableClaim

CLAIM = "claim.json"


def run_claims(
    *, names: tuple[str, ...], seeds: int | None, quick: bool, threads: int | None, out: Path, as_json: bool
) -> None:
    """Measure what is missing, and print the verdicts.

    Raises:
        BadInput: before the work, an unknown claim, too few seeds, a folder that cannot be written.
    """
    import torch  # noqa: F401 - before any kernel, as in ``qnoise run``

    from simulator.provenance import run_key
    from simulator.threads import set_threads
    from studies.claims import table
    from studies.claims.catalogue import chosen
    from studies.console import jsonable, print_json, print_table, progress
    from studies.documents import Table, html_page, latex
    from studies.main_job import available_threads
    from studies.results import folder_for, json_bytes, require_writable
    from studies.store.files import publish

    every = chosen(names)
    asked = [_sized(claim, seeds, quick) for claim in every if isinstance(claim, Claim)]
    untestable = table.untestable_records([claim for claim in every if isinstance(claim, UntestableClaim)])
    count = available_threads() if threads is None else threads
    require_writable(out)
    set_threads(count)
    configs, values = [], {}
    with progress() as report:
        for claim in asked:
            config = claim_config(claim, count, quick)
            configs.append({**config, "seeds": claim.seeds})
            folder = folder_for(out, claim.name, run_key(config), "claim")
            folder.mkdir(exist_ok=True)
            publish(folder / CLAIM, json_bytes(config))
            for setting in claim.settings:
                values[claim.name, setting.subject] = [
                    _value(claim, setting, seed, folder, report) for seed in range(claim.seeds)
                ]
    records = table.claim_records(asked, values)
    found = {"quick": quick, "claims": jsonable(records), "not_testable": untestable}
    title = "claims, quick preset: no verdict to quote" if quick else "claims"
    both = [
        Table.of_words(title, table.HEADER, table.claim_rows(records)),
        Table.of_words("claims without a subject here", table.UNTESTABLE_HEADER, table.untestable_rows(untestable)),
    ]
    tables = [one for one in both if one.rows]
    documents = {"claims.tex": latex(tables, ()).encode(), "claims.html": html_page(title, tables, ()).encode()}
    folder = folder_for(out, "claims", run_key({"claims": configs, "not_testable": untestable}))
    folder.mkdir(exist_ok=True)
    for name, content in {"claims.json": json_bytes(found), **documents}.items():
        publish(folder / name, content)
    if as_json:
        print_json(found)
        return
    for one in tables:
        print_table(one.title, one.header, one.rows)
    print(f"wrote: {folder}")


def _sized(claim: Claim, seeds: int | None, quick: bool) -> Claim:
    """The claim with other seeds, or small: then its numbers say only that it runs."""
    if quick:
        small = tuple(
            dataclasses.replace(setting, samples=16, calibration_samples=16, steps=4, batch_size=16)
            for setting in claim.settings
        )
        return dataclasses.replace(claim, settings=small, seeds=seeds or 3)
    return claim if seeds is None else dataclasses.replace(claim, seeds=seeds)


def claim_config(claim: Claim, threads: int, quick: bool) -> dict[str, Any]:
    """All that determines the values of every seed, as plain JSON values; how many seeds there are is no part."""
    from simulator.models.loading import load
    from simulator.provenance import NUMERICS_VERSION

    return {
        "claim": claim.name,
        "endpoints": [endpoint.name for endpoint in claim.endpoints],
        "settings": [dataclasses.asdict(setting) for setting in claim.settings],
        "weights": [load(setting.subject).weights_digest for setting in claim.settings],
        "threads": threads,
        "numerics_version": NUMERICS_VERSION,
        "preset": "quick" if quick else "full",
    }


def seed_file(folder: Path, setting: Setting, seed: int) -> Path:
    """Where one seed's values of one subject are."""
    return folder / f"{setting.subject}-{seed}.json"


def _value(claim: Claim, setting: Setting, seed: int, folder: Path, report: Report) -> Mapping[str, float]:
    from studies.results import json_bytes
    from studies.store.files import publish

    path = seed_file(folder, setting, seed)
    if not path.exists():
        title = f"{claim.name}, {setting.subject}, seed {seed}"
        found = claim.measure(setting, seed, lambda what, done, total: report(f"{title}: {what}", done, total))
        # JSON has neither NaN nor infinity: null stands for both
        publish(path, json_bytes({name: value if math.isfinite(value) else None for name, value in found.items()}))
    return numbers(json.loads(path.read_text(encoding="utf-8")))


def numbers(stored: Mapping[str, float | None]) -> dict[str, float]:
    """Stored values with NaN for null."""
    return {name: float("nan") if value is None else value for name, value in stored.items()}
