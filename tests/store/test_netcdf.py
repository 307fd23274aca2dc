"""Claim: an image is a netCDF4 file that every reader understands alike, made of the dataset and nothing else."""

from __future__ import annotations

import io
import time

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from samplers.errors import BadInput
from studies.store.netcdf import from_image, to_image


def example() -> xr.Dataset:
    random = np.random.default_rng(0)
    return xr.Dataset(
        {
            "floats": (("step", "site"), random.normal(size=(3, 4)), {"units": "dB", "numbers": [1, 2], "one": 0.5}),
            "gaps": (("step",), np.array([1.0, np.nan, -np.inf], np.float32)),
            "counts": (("site", "step"), random.integers(0, 9, (4, 3))),
            "flags": (("step",), np.array([True, False, True])),
            "codes": (("square", "step"), np.arange(6, dtype=np.uint8).reshape(2, 3)),
            "alone": ((), 2.5, {"long_name": "µ and σ"}),
            "empty": (("none",), np.zeros(0)),
        },
        {
            "site": ["a:b", "c.d:e#1", "é", ""],
            "step": [5, 3, 1],
            "who": "someone",
            "seed": 3,
            "label": ("step", list("xyz")),
        },
        {"key": "k", "empty": "", "names": ["a", "b"], "config": '{"a": [1, 2]}'},
    )


def test_from_image__gives_back_the_dataset() -> None:
    xr.testing.assert_identical(from_image(to_image(example())), example())


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_to_image__is_read_alike_by_others(tmp_path, engine: str) -> None:
    pytest.importorskip(engine.replace("netcdf4", "netCDF4"))
    path = tmp_path / "run.nc"
    path.write_bytes(to_image(example()))
    with xr.open_dataset(path, engine=engine) as found:
        xr.testing.assert_identical(found.load(), example())


def test_from_image__reads_what_others_wrote() -> None:
    written = bytes(example().drop_vars("empty").to_netcdf(engine="h5netcdf"))
    with xr.open_dataset(io.BytesIO(written), engine="h5netcdf") as found:
        xr.testing.assert_identical(from_image(written), found.load())


def test_to_image__is_the_same_at_any_time_in_any_process(fresh_python) -> None:
    code = (
        "import hashlib\nfrom tests.store.test_netcdf import example, to_image\n"
        "print(hashlib.sha256(to_image(example())).hexdigest())"
    )
    first = fresh_python(code).stdout
    time.sleep(1.1)  # HDF5's own stamps would be in whole seconds
    assert fresh_python(code, PYTHONHASHSEED="7").stdout == first


@pytest.mark.parametrize(
    ("name", "values"),
    [("when", np.array(["2020-01-01"], "datetime64[ns]")), ("z", np.array([1j])), ("o", np.array([{}], object))],
)
def test_to_image__refuses_what_it_has_no_form_for(name: str, values: np.ndarray) -> None:
    with pytest.raises(BadInput, match="numbers, booleans or texts"):
        to_image(xr.Dataset({name: ("x", values)}))


@pytest.mark.parametrize("name", ["a b", "a/b", ""])
def test_to_image__refuses_names_that_netcdf_has_not(name: str) -> None:
    with pytest.raises(BadInput, match="name"):
        to_image(xr.Dataset({name: 1.0}))


@given(st.binary(max_size=300))
def test_from_image__refuses_other_bytes(content: bytes) -> None:
    with pytest.raises(BadInput, match="netCDF4"):
        from_image(content)


def test_from_image__refuses_a_variable_larger_than_its_file() -> None:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("x", (2**40,), "f8")  # no storage behind it
    with pytest.raises(BadInput, match="1099511627776 elements"):
        from_image(buffer.getvalue())
