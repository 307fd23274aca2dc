"""Write docs/results/claims.json, the tables of docs/claims.md and README.md's; values come from ``qnoise claims``.

Run from the repository's root: ``python docs/generate_claims.py`` writes them anew from the committed values; with
results folders as arguments (what ``qnoise claims --out`` was given) it first takes over what has finished there. A
test holds that all are what it writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from studies.claims.catalogue import claims  # noqa: E402
from studies.claims.published import committed, finished, summary, tables  # noqa: E402
from studies.documents import put  # noqa: E402

PAGE, README = ROOT / "docs" / "claims.md", ROOT / "README.md"
RESULTS = ROOT / "docs" / "results" / "claims.json"


def results(folders: list[Path]) -> dict[str, Any]:
    """The committed form, with what has finished in these folders."""
    measured = json.loads(RESULTS.read_text(encoding="utf-8"))["measured"] if RESULTS.exists() else {}
    for folder in folders:
        measured |= finished(claims(), folder)
    return committed(claims(), measured)


def text(found: dict[str, Any]) -> str:
    """The file's."""
    return json.dumps(found, indent=1, sort_keys=True, allow_nan=False) + "\n"


def pages(found: dict[str, Any]) -> dict[Path, str]:
    """Every page with its tables replaced."""
    texts = {PAGE: ("tables", tables(found)), README: ("claims", "\n".join(summary(found)) + "\n")}
    return {path: put(path.read_text(encoding="utf-8"), *text) for path, text in texts.items()}


if __name__ == "__main__":
    made = results([Path(folder) for folder in sys.argv[1:]])
    RESULTS.write_text(text(made), encoding="utf-8")
    for path, page in pages(made).items():
        path.write_text(page, encoding="utf-8")
