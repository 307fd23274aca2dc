"""The folder of a job's results: complete or absent."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr

from samplers.errors import BadInput
from simulator.provenance import canonical
from studies.store.exclusive import sync_folder
from studies.store.files import read, write


def folder_for(out: Path, name: str, key: str, study: str = "") -> Path:
    """Where the results of the job with ``key`` live: ``name-key`` of ``qnoise run``, ``name-study-key`` of others."""
    return out / "-".join(filter(None, (name, study, key[:8])))


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


class AlreadyThere(BadInput):
    """Another run published the same results first."""


@contextmanager
def publishing(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; rename it into place at the end, remove it on any failure.

    Raises:
        AlreadyThere: ``folder`` exists.
        BadInput: the disk refuses the rename.
    """
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary
        sync_folder(temporary)
        temporary.chmod(0o777 & ~_umask())
        try:
            os.rename(temporary, folder)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                raise AlreadyThere(
                    "results are never overwritten", got=str(folder), fix="name another folder with --out"
                ) from None
            raise BadInput(
                "results must be renamed into place", got=f"{folder} ({error.strerror})", fix="use another --out"
            ) from None
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def find_or_publish(
    folder: Path, config: dict[str, Any], compute: Callable[[], dict[str, bytes]]
) -> tuple[list[xr.Dataset], bool]:
    """The runs of a job's folder, and whether they were there already; computed and published where they were not.

    Args:
        folder: the results folder.
        config: the job's configuration that the folder must hold.
        compute: every file of the folder, by name; called only where there is no folder.

    Raises:
        BadInput: the folder holds another job or is damaged, or the disk refuses it.
    """
    if folder.exists():
        return load_runs(folder, config), True
    files = compute()
    reused = False
    try:
        with publishing(folder) as temporary:
            for name, content in files.items():
                write(temporary / name, content)
    except AlreadyThere:  # the same job finished elsewhere meanwhile, with the same bytes
        reused = True
    return load_runs(folder, config), reused


def complete(
    files: dict[str, bytes], config: dict[str, Any], runs: Sequence[str], started: float | None = None
) -> dict[str, bytes]:
    """Files with ``job.json``, which says what the folder holds, and ``log.json``, which says how long it took."""
    listed = {**files, JOB_FILE: json_bytes({"config": config, "runs": list(runs), "files": sorted(files)})}
    if started is None:
        return listed
    return {**listed, "log.json": json_bytes({"seconds": round(time.time() - started, 3), "started": started})}


def found_or_wrote(folder: Path, reused: bool) -> str:
    """The last line that a command prints."""
    return f"{'found, nothing recomputed' if reused else 'wrote'}: {folder}"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def run_file(dataset: xr.Dataset) -> str:
    """File name of a run: what it is, and the start of its key."""
    eta = float(dataset.eta)
    sampler = f"{dataset.sampler.item()}" + ("" if eta != eta else f"-eta{eta:g}")
    return f"{dataset.scheme.item()}-{dataset.correction.item()}-{sampler}-{dataset.attrs['key'][:8]}.nc"


def json_bytes(content: Any) -> bytes:
    """JSON with sorted keys."""
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


JOB_FILE = "job.json"


def load_runs(folder: Path, config: dict[str, Any] | None = None) -> list[xr.Dataset]:
    """Every run of a finished job, in the order it was computed.

    Args:
        folder: the results folder.
        config: the job's configuration that the folder must hold; not compared if absent.

    Raises:
        BadInput: the folder holds another job, or a file is missing or damaged.
    """
    try:
        job = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
        stored, files, names = job["config"], job["files"], job["runs"]
        missing = [name for name in files if not (folder / Path(name).name).is_file()]
        if missing or not names:
            raise BadInput("a results folder must be complete", got=f"{folder} without {missing}", fix=_FIX)
        if config is not None and canonical(stored) != canonical(config):
            raise BadInput("a results folder must hold the job it is named after", got=str(folder), fix=_FIX)
        return [read(folder / Path(name).name) for name in names]
    except BadInput:
        raise
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise BadInput("a results folder must be complete", got=f"{folder} ({error})", fix=_FIX) from None


_FIX = "move it away and run again"
