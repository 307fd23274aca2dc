"""Write the tables and figures of docs/theory.md.

Run from the repository's root: ``python docs/generate_theory.py`` (a few minutes), or
``python docs/generate_theory.py forms`` for what needs no network, which a test holds against the page.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE, FIGURES = ROOT / "docs" / "theory.md", ROOT / "docs" / "figures"
sys.path.insert(0, str(ROOT))

from studies.documents import put  # noqa: E402

MODELS = ("digits-unet", "digits-dit")
OPTIONS = ("--steps", "10", "--samples", "256", "--threads", "1")
BITS = range(2, 9)


def ratios() -> str:
    """Input deviation in steps from which on step^2 / 12 holds."""
    from noise_models.theory.uniform import smallest_ratio

    tolerances = (0.1, 0.01, 0.001)
    rows = [
        [family, *(f"{smallest_ratio(family, tolerance):.3f}" for tolerance in tolerances)]
        for family in ("gaussian", "laplace", "uniform")
    ]
    return table(["input", *(f"{tolerance:.1%}" for tolerance in tolerances)], rows)


def clips() -> str:
    """Optimal clips and SQNR of unit inputs, exact and by ACIQ."""
    from noise_models.theory.densities import Gaussian, Laplace
    from noise_models.theory.overload import Convention, Grid, aciq_clip, distortion, optimal_clip

    rows = []
    for bits in BITS:
        row = [str(bits)]
        for density, unit in ((Gaussian(), 1.0), (Laplace(0.0, 2**0.5), 1.0)):
            power = density.deviation**2
            midrise = optimal_clip(density, bits)
            integers = optimal_clip(density, bits, Convention.SYMMETRIC)
            aciq = aciq_clip(density, bits)
            at_aciq = distortion(density, Grid.of(Convention.MIDRISE, bits, aciq.clip))
            grid = Grid.of(Convention.MIDRISE, bits, midrise.clip)
            row += [
                f"{midrise.clip / unit:.3f}", f"{distortion(density, grid).sqnr_db(power):.2f}",
                f"{aciq.clip / unit:.3f}", f"{at_aciq.sqnr_db(power):.2f}", f"{integers.clip / unit:.3f}",
                f"{distortion(density, Grid.of(Convention.SYMMETRIC, bits, integers.clip)).sqnr_db(power):.2f}",
            ]  # fmt: skip
        rows.append(row)
    names = ["exact", "dB", "ACIQ", "dB", "integers", "dB"]
    return table(["bits", *(f"Gauss {n}" for n in names), *(f"Laplace {n}" for n in names)], rows)


FORMS = {"ratios": ratios, "clips": clips}
"""Tables that need no network, by marker."""


def measured() -> dict[str, str]:
    """Tables of the shipped models, by marker; copies their figures."""
    from studies.predict_layers import miss_rows, share_rows

    tables = {}
    for model in MODELS:
        with tempfile.TemporaryDirectory() as out:
            command = ["-m", "studies.cli", "predict-layers", "--model", model, *OPTIONS, "--json", "--out", out]
            printed = subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True, text=True)
            found = json.loads(printed.stdout)
            shutil.copyfile(Path(found["folder"]) / "layers.png", FIGURES / f"layers-{model}.png")
        tables[f"shares-{model}"] = table(*share_rows(found["schemes"]))
        tables[f"misses-{model}"] = table(*miss_rows(found["schemes"]))
    return tables


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    if not rows:
        return "None.\n"
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def with_tables(page: str, tables: dict[str, str]) -> str:
    """The page with each table between the markers of its name."""
    for name, text in tables.items():
        page = put(page, name, text)
    return page


def main() -> None:
    """Regenerate."""
    tables = {name: make() for name, make in FORMS.items()}
    if sys.argv[1:] != ["forms"]:
        tables |= measured()
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), tables), encoding="utf-8")


if __name__ == "__main__":
    main()
