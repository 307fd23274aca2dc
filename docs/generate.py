"""Write the README's results: run the main job, copy its figures, and put its table between the markers.

Run from the repository's root: ``python docs/generate.py``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def main() -> None:
    """Regenerate."""
    figures = ROOT / "docs" / "figures"
    figures.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as out:  # a fresh folder: results found again could be those of older code
        command = [sys.executable, "-m", "studies.cli", "run", "--threads", "2", "--json", "--out", out]
        found = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
        for name in ("snr.png", "samples.png"):
            shutil.copyfile(Path(found["folder"]) / name, figures / name)
    readme = ROOT / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{_table(found['runs'])}{END}{after}", encoding="utf-8")


def _table(runs: list[dict]) -> str:
    lines = [
        "SQNR in dB (`qnoise run --threads 2`). ε: median over steps, and injected at the last step. x0: final sample,",
        "pooled over samples with its 95 % interval, and its median over samples.",
        "",
        "| scheme | correction | eta | ε injected | last step | ε accumulated | x0 | x0, median |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        final = f"{run['final_sample_db']:.1f} ({run['final_sample_db_low']:.1f} to {run['final_sample_db_high']:.1f})"
        values = [run[f"epsilon_{name}_db"] for name in ("injected_median", "injected_last", "accumulated_median")]
        cells = [run["scheme"].upper(), run["correction"], f"{run['eta']:g}", *(f"{v:.1f}" for v in values), final]
        lines.append("| " + " | ".join([*cells, f"{run['final_sample_median_db']:.1f}"]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
