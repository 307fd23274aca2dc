"""Datasets as netCDF4 images in memory, and back.

A netCDF4 file is HDF5 with dimension scales. Datasets here hold numbers, booleans and texts alone, so the image is made
with h5py directly: a tenth of the time of a general writer, no lock but HDF5's own, and nothing of the clock in it.
Missing values are NaN. What reads them: any netCDF4 tool, xarray included.
"""

from __future__ import annotations

import io
import math
from collections.abc import Hashable, Mapping
from typing import Any

import h5py
import numpy as np
import xarray as xr

from samplers.errors import BadInput

_ONLY_A_DIMENSION = "This is a netCDF dimension but not a netCDF variable."
_OF_SCALES = frozenset({"CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates"})
"""Attributes that make the format, and are none of a variable's own."""

_TEXT = h5py.string_dtype()


def to_image(dataset: xr.Dataset) -> bytes:
    """The dataset as the bytes of a netCDF4 file: the same bytes for the same dataset.

    Raises:
        BadInput: a variable that is neither numbers, booleans nor texts, or a name that netCDF cannot have.
    """
    with h5py.File("image", "w", driver="core", backing_store=False, track_order=True) as file:  # in memory
        scales = {}
        for number, (name, size) in enumerate(dataset.sizes.items()):
            scales[name] = _scale(file, dataset, _checked(name), size, number)
        for name, variable in dataset.variables.items():
            stored = scales[name] if name in scales else _write(file, _checked(name), variable)
            for axis, dimension in enumerate(variable.dims):
                if dimension != name:
                    h5py.h5ds.attach_scale(stored.id, scales[dimension].id, axis)
        _note(file, dataset.attrs)
        labels = sorted(str(name) for name in dataset.coords if name not in scales)
        if labels:
            file.attrs["coordinates"] = " ".join(labels)
        file.flush()
        return bytes(file.id.get_file_image())


def from_image(image: bytes) -> xr.Dataset:
    """The dataset of a netCDF4 file's bytes, in memory.

    Raises:
        BadInput: they are no such file.
    """
    try:
        with h5py.File(io.BytesIO(image), "r") as file:
            own = [name for name in file if not _is_dimension(file[name])]
            for name in own:
                require_inside(file[name].id, len(image))
            variables = {name: _read(file, file[name]) for name in own}
            attrs = {name: _plain(value) for name, value in file.attrs.items() if name != "_NCProperties"}
        return xr.decode_cf(xr.Dataset(variables, attrs=attrs))
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            "a run's file must be netCDF4", got=f"{len(image)} bytes ({error})".splitlines()[0], fix="move it away"
        ) from None


def require_inside(found: h5py.h5d.DatasetID, size: int) -> None:
    """Refuse a variable that says to be larger than the image it lies in, before memory is taken for it.

    Raises:
        ValueError: it does.
    """
    count = math.prod(found.shape)
    if count * found.dtype.itemsize > size:
        raise ValueError(f"a variable of {count} elements")


def _scale(file: h5py.File, dataset: xr.Dataset, name: str, size: int, number: int) -> h5py.Dataset:
    """A dimension: of a coordinate its variable, else a variable without values."""
    if name in dataset.variables:
        made, title = _write(file, name, dataset.variables[name]), name
    else:
        made, title = file.create_dataset(name, (size,), ">f4"), f"{_ONLY_A_DIMENSION}{size:10d}"
    made.make_scale(title)
    made.attrs["_Netcdf4Dimid"] = np.int32(number)
    return made


def _write(file: h5py.File, name: str, variable: xr.Variable) -> h5py.Dataset:
    values, attrs = np.asarray(variable.values), dict(variable.attrs)
    if values.dtype == bool:
        values, attrs = values.astype(np.int8), {**attrs, "dtype": "bool"}
    if values.dtype.kind in "iuf":
        made = file.create_dataset(name, data=values)
    elif values.dtype.kind == "U":
        made = file.create_dataset(name, data=values.astype(object), dtype=_TEXT)
    else:
        raise BadInput(
            "stored variables must be numbers, booleans or texts", got=f"{name}: {values.dtype}", fix="convert it"
        )
    _note(made, attrs)
    return made


def _note(place: h5py.File | h5py.Dataset, attrs: Mapping[Any, Any]) -> None:
    for name, value in attrs.items():
        place.attrs[name] = np.array(value, _TEXT) if isinstance(value, list) and _are_texts(value) else value


def _are_texts(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, str) for value in values)


def _checked(name: Hashable) -> str:
    if not isinstance(name, str) or not name or "/" in name or " " in name:
        raise BadInput("a stored variable's name must be text without spaces and slashes", got=repr(name), fix="rename")
    return name


def _is_dimension(found: h5py.Dataset) -> bool:
    title = found.attrs.get("NAME", b"")
    return bytes(title).startswith(_ONLY_A_DIMENSION.encode()) if isinstance(title, bytes | np.bytes_) else False


def _read(file: h5py.File, found: h5py.Dataset) -> xr.Variable:
    attrs = {name: _plain(value) for name, value in found.attrs.items() if name not in _OF_SCALES}
    if "DIMENSION_LIST" in found.attrs:
        dims = [file[scales[0]].name.rpartition("/")[2] for scales in found.attrs["DIMENSION_LIST"]]
    else:
        dims = [found.name.rpartition("/")[2]] * found.ndim
    if h5py.check_string_dtype(found.dtype) is None:
        return xr.Variable(dims, found[()], attrs)
    return xr.Variable(dims, np.asarray(found.asstr()[()], dtype=str), attrs)


def _plain(value: Any) -> Any:
    """An attribute as xarray's readers give it."""
    if isinstance(value, h5py.Empty):
        return ""
    if isinstance(value, np.ndarray) and value.size == 1:
        return value.reshape(())[()]
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [str(one) for one in value]
    return value
