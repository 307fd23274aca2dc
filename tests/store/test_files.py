"""A run's file is published whole, byte-identical for the same dataset, and any damage to it is noticed."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from samplers.errors import BadInput
from studies.store import files as store
from studies.store.sealed import TRAILER


@pytest.fixture
def dataset() -> xr.Dataset:
    values = np.random.default_rng(0).normal(size=(3, 4))
    return xr.Dataset(
        {"a": (("step", "site"), values, {"units": "dB"})}, coords={"site": list("wxyz")}, attrs={"key": "k"}
    )


def test_dataset_bytes__are_the_same_for_the_same_dataset_at_any_time(dataset: xr.Dataset) -> None:
    import time

    first = store.dataset_bytes(dataset)
    time.sleep(1.1)  # HDF5 stamps are in whole seconds
    assert store.dataset_bytes(dataset.copy(deep=True)) == first


def test_read__gives_back_what_was_written_and_netcdf_tools_open_it(dataset: xr.Dataset, tmp_path) -> None:
    path = tmp_path / "run.nc"
    store.write(path, store.dataset_bytes(dataset))
    xr.testing.assert_identical(store.read(path), dataset)
    pytest.importorskip("netCDF4")
    with xr.open_dataset(path, engine="netcdf4") as other:
        xr.testing.assert_identical(other.load(), dataset)


def test_read__refuses_every_flipped_bit_and_every_truncation(dataset: xr.Dataset, tmp_path) -> None:
    content = store.dataset_bytes(dataset)
    path = tmp_path / "run.nc"
    random = np.random.default_rng(1)
    positions = [0, len(content) - 1, len(content) - TRAILER, *random.integers(0, len(content), 40)]
    for position in positions:
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match="digest"):
            store.read(path)
    for size in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(BadInput, match="digest"):
            store.read(path)


def test_write__never_replaces_a_file_and_leaves_nothing_else(dataset: xr.Dataset, tmp_path) -> None:
    path = tmp_path / "run.nc"
    store.write(path, b"first")
    with pytest.raises(BadInput, match="never overwritten"):
        store.write(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]
