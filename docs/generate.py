"""Write what the README shows: run the main job and the examples, copy their figures, put numbers between markers.

Run from the repository's root: ``python docs/generate.py``, or ``python docs/generate.py examples`` for these alone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from studies.documents import put  # noqa: E402

FIGURES = ROOT / "docs" / "figures"
EXAMPLES = ("narrow_machine", "fake_quant_against_hardware", "heat_map")


def main() -> None:
    """Regenerate."""
    FIGURES.mkdir(exist_ok=True)
    if sys.argv[1:] != ["examples"]:
        _main_job()
    for name in EXAMPLES:
        _example(name)


def _main_job() -> None:
    with tempfile.TemporaryDirectory() as out:  # a fresh folder: results found again could be those of older code
        found = json.loads(_run("-m", "studies.cli", "run", "--threads", "2", "--json", "--out", out))
        for name in ("snr.png", "samples.png"):
            shutil.copyfile(Path(found["folder"]) / name, FIGURES / name)
    _put("results", _table(found["runs"]))


def _example(name: str) -> None:
    with tempfile.TemporaryDirectory() as out:
        printed = _run(f"examples/{name}.py", "--out", out)
        for path in sorted(Path(out).glob("*.png")):
            shutil.copyfile(path, FIGURES / path.name)
    _put(name, f"```text\n{printed}```\n")


def _run(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def _put(name: str, text: str) -> None:
    """Replace what stands between the README's markers of this name."""
    readme = ROOT / "README.md"
    readme.write_text(put(readme.read_text(encoding="utf-8"), name, text), encoding="utf-8")


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
