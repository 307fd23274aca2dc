"""Write the tables of docs/quality.md from docs/results/quality-*.json, which come from ``qnoise quality``.

Run from the repository's root: ``python docs/generate_quality.py`` writes the page; with a results folder as argument
it first takes over that folder's numbers and figure. A test holds that the page is what it writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from studies.documents import put  # noqa: E402
from studies.quality.table import difference_cells, distance_cells  # noqa: E402

PAGE = ROOT / "docs" / "quality.md"
RESULTS = ROOT / "docs" / "results" / "quality-digits-unet.json"
FIGURE = ROOT / "docs" / "figures" / "quality"


def take_over(folder: Path) -> None:
    """Keep a finished run's rows as JSON, and draw its figure."""
    import matplotlib

    matplotlib.use("agg")
    from studies.plots.quality import quality_figure
    from studies.plots.style import save
    from studies.quality.table import difference_rows, distance_rows
    from studies.results import load_runs

    (dataset,) = load_runs(folder)
    references = dataset.reference.values.tolist()
    rows = {
        "distances": [row for reference in references for row in distance_rows(dataset, reference)],
        "differences": difference_rows(dataset),
    }
    facts = {"features": dataset.attrs["features"], "feature_dimension": int(dataset.attrs["feature_dimension"])}
    facts["generated"] = int(dataset.samples.max())
    text = json.dumps(facts | {name: [_plain(row) for row in each] for name, each in rows.items()}, indent=1)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text.replace("NaN", "null") + "\n", encoding="utf-8")
    save(quality_figure(dataset), FIGURE)
    FIGURE.with_suffix(".pdf").unlink()


def tables() -> str:
    """Markdown of the committed results."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    rows = {name: [_numbers(row) for row in found[name]] for name in ("distances", "differences")}
    parts = [
        f"{found['generated']} generated samples of each set, features {found['features']}, "
        f"{found['feature_dimension']} dimensions; 95 % intervals in brackets; *: from fewer than 20 samples per "
        "dimension.",
        "",
    ]
    for reference, title in (("real", "real images"), ("full_precision", "full precision on other noise")):
        own = [row for row in rows["distances"] if row["reference"] == reference]
        parts += [f"Against {title}:", "", *_markdown(*distance_cells(own)), ""]
    parts += ["Minus full precision on the same noise:", "", *_markdown(*difference_cells(rows["differences"])), ""]
    return "\n".join(parts)


def page() -> str:
    """The page with its tables replaced."""
    return put(PAGE.read_text(encoding="utf-8"), "tables", tables())


def _plain(row: dict) -> dict:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}


def _numbers(row: dict) -> dict:
    return {name: float("nan") if value is None else value for name, value in row.items()}


def _markdown(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        take_over(Path(sys.argv[1]))
    PAGE.write_text(page(), encoding="utf-8")
