"""Write docs/results/claims.json and the tables of docs/claims.md; values come from ``qnoise claims``.

Run from the repository's root: ``python docs/generate_claims.py`` writes both anew from the committed values; with
results folders as arguments (what ``qnoise claims --out`` was given) it first takes over what has finished there. A
test holds that both are what it writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from studies.claims.catalogue import claims  # noqa: E402
from studies.claims.published import committed, finished, tables  # noqa: E402

PAGE = ROOT / "docs" / "claims.md"
RESULTS = ROOT / "docs" / "results" / "claims.json"
BEGIN, END = "<!-- tables:begin -->", "<!-- tables:end -->"


def results(folders: list[Path]) -> dict[str, Any]:
    """The committed form, with what has finished in these folders."""
    measured = json.loads(RESULTS.read_text(encoding="utf-8"))["measured"] if RESULTS.exists() else {}
    for folder in folders:
        measured |= finished(claims(), folder)
    return committed(claims(), measured)


def text(found: dict[str, Any]) -> str:
    """The file's."""
    return json.dumps(found, indent=1, sort_keys=True, allow_nan=False) + "\n"


def page(found: dict[str, Any]) -> str:
    """The page with its tables replaced."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    return f"{before}{BEGIN}\n{tables(found)}{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    made = results([Path(folder) for folder in sys.argv[1:]])
    RESULTS.write_text(text(made), encoding="utf-8")
    PAGE.write_text(page(made), encoding="utf-8")
