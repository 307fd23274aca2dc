"""One run, one file: netCDF bytes built in memory, with a digest behind them.

A file is the netCDF4 (HDF5) image of the dataset, sealed (``studies.store.sealed``). Readers of HDF5 ignore what
follows the image, so any netCDF tool opens it.
"""

from __future__ import annotations

import os
from pathlib import Path

import xarray as xr

from samplers.errors import BadInput
from studies.store.netcdf import from_image, to_image
from studies.store.sealed import seal, unseal


def dataset_bytes(dataset: xr.Dataset) -> bytes:
    """The dataset as a file's bytes, trailer included: the same bytes for the same dataset."""
    return seal(to_image(dataset))


def write(path: Path, content: bytes) -> None:
    """Write a new file, synced to disk; never over an existing one, and removed again if writing fails.

    Raises:
        BadInput: the file exists, or the disk refuses it.
    """
    try:
        with open(path, "xb") as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                path.unlink()
                raise
    except FileExistsError:
        raise BadInput("a run's file is never overwritten", got=str(path), fix="choose another folder") from None
    except OSError as error:
        raise BadInput(
            "a run's file must be writable", got=f"{path} ({error.strerror})", fix="make room, or choose another folder"
        ) from None


def publish(path: Path, content: bytes) -> None:
    """Put a whole file at ``path``, in place of what is there: written beside it, then renamed.

    Raises:
        BadInput: the disk refuses it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write(temporary, content)
    try:
        os.replace(temporary, path)
    except OSError as error:
        raise BadInput(
            "a file must be renamed into place", got=f"{path} ({error.strerror})", fix="choose another folder"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> xr.Dataset:
    """Load a run's file, its digest checked first.

    Raises:
        BadInput: the file is truncated, changed, or not a run's file.
    """
    return from_image(unseal(path.read_bytes(), path))
