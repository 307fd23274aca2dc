"""The folder of a job's results: complete or absent."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr

from samplers.errors import BadInput
from studies import store


def folder_for(out: Path, name: str, key: str) -> Path:
    """Where the results of the job with ``key`` live."""
    return out / f"{name}-{key[:8]}"


def require_writable(out: Path) -> None:
    """Make the results folder, and prove that it can be written.

    Raises:
        BadInput: it cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise BadInput(
            "the results folder must be writable", got=f"{out} ({error.strerror})", fix="name another with --out"
        ) from None


@contextmanager
def publishing(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; rename it into place at the end, remove it on any failure.

    Raises:
        BadInput: ``folder`` exists.
    """
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary
        store.sync_folder(temporary)
        temporary.chmod(0o777 & ~_umask())
        try:
            os.rename(temporary, folder)
        except OSError:
            raise BadInput(
                "results are never overwritten", got=str(folder), fix="name another folder with --out"
            ) from None
        store.sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def run_file(dataset: xr.Dataset) -> str:
    """File name of a run: what it is, and the start of its key."""
    eta = float(dataset.eta)
    sampler = f"{dataset.sampler.item()}" + ("" if eta != eta else f"-eta{eta:g}")
    return f"{dataset.scheme.item()}-{dataset.correction.item()}-{sampler}-{dataset.attrs['key'][:8]}.nc"


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys."""
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load_runs(folder: Path) -> list[xr.Dataset]:
    """Every run of a finished job, in the order it was computed.

    Raises:
        BadInput: a file is missing or damaged.
    """
    try:
        names = json.loads((folder / "job.json").read_text(encoding="utf-8"))["runs"]
        return [store.read(folder / name) for name in names]
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            "a results folder must be complete", got=f"{folder} ({error})", fix="move it away and run again"
        ) from None
