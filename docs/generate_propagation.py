"""Write the tables of docs/propagation.md from docs/results/propagation-*.json, which ``qnoise predict`` made.

Run from the repository's root: ``python docs/generate_propagation.py``. A test holds that the page is what it writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from studies.documents import put  # noqa: E402
from studies.prediction.table import hits, prediction_rows  # noqa: E402

PAGE = ROOT / "docs" / "propagation.md"
RESULTS = ROOT / "docs" / "results"


def tables() -> str:
    """Markdown of every model's grid."""
    parts = []
    for path in sorted(RESULTS.glob("propagation-*.json")):
        records = json.loads(path.read_text(encoding="utf-8"))
        model = path.stem.removeprefix("propagation-")
        parts += [f"### {model}", "", *_markdown(["", "within 1 dB"], _hit_rows(records)), ""]
        parts += [*_markdown(*prediction_rows(records)), ""]
    return "\n".join(parts)


def page() -> str:
    """The page with its tables replaced."""
    return put(PAGE.read_text(encoding="utf-8"), "tables", tables())


def _hit_rows(records: list[dict]) -> list[list[str]]:
    return [[what, f"{right} of {total}"] for what, right, total in hits(records)]


def _markdown(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
