"""The commands of ``qnoise store``."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from samplers.errors import BadInput
from studies.console import print_json, progress
from studies.store.store import Store


def run_verify(path: Path, *, as_json: bool) -> int:
    """Print what is damaged; 1 if anything is."""
    from studies.store.verification import verify

    every = list(verify(Store.open(path)))
    broken = [found for found in every if found is not None]
    if as_json:
        print_json({"files": len(every), "damaged": [{"path": str(f.path), "problem": f.problem} for f in broken]})
    else:
        for found in broken:
            print(f"damaged: {found.path}: {found.problem}")
        print(f"{len(every)} files, {len(broken)} damaged")
        if broken:
            print(f"qnoise store gc {path} --damaged removes them; qnoise study resume {path} computes them again")
    return int(bool(broken))


def run_merge(path: Path, out: Path, study: str | None) -> None:
    """Write the Zarr store."""
    from studies.store.merging import merge

    store = Store.open(path)
    _require_new(out)
    with progress() as report:
        found = merge(store, out, study, lambda done, total: report("merging", done, total))
    shapes = f" in {len(found.groups)} groups of unlike shape" if len(found.groups) > 1 else ""
    missing = f"; {found.missing} are missing" if found.missing else ""
    print(f"wrote {out}: {sum(found.groups)} runs{shapes}{missing}")


def run_export(path: Path, out: Path, study: str | None, rows: str) -> None:
    """Write netCDF, CSV or Parquet."""
    from studies.store.exporting import Rows, export

    store = Store.open(path)
    if rows not in [kind.value for kind in Rows]:
        raise BadInput("rows must be runs or steps", got=repr(rows), fix="--rows steps")
    _require_new(out)
    if out.suffix == ".nc":
        from studies.store.merging import merge, open_merged

        with tempfile.TemporaryDirectory(dir=_folder(out), prefix=f".{out.name}.") as folder:
            merged = Path(folder) / "merged"
            merge(store, merged, study)
            unfinished = Path(folder) / out.name
            open_merged(merged).to_netcdf(unfinished, engine="h5netcdf")
            unfinished.rename(out)
        print(f"wrote {out}")
    else:
        print(f"wrote {out}: {export(store, out, study, Rows(rows))} rows")


def run_gc(path: Path, *, shared: bool, damaged: bool, orphans: bool, as_json: bool) -> None:
    """Tidy up, and print how many files went."""
    from studies.store.tidying import collect

    found = dataclasses.asdict(collect(Store.open(path).writable(), shared=shared, damaged=damaged, orphans=orphans))
    if as_json:
        print_json(found)
    else:
        print("removed: " + ", ".join(f"{count} {name}" for name, count in found.items()))


def _require_new(out: Path) -> None:
    if out.exists():
        raise BadInput("results are never overwritten", got=str(out), fix="name another with --output")


def _folder(out: Path) -> Path:
    from studies.results import require_writable

    require_writable(out.parent)
    return out.parent
