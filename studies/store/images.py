"""What lies in a run's bytes, read with h5py alone: an order of magnitude faster than as a dataset."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import h5py
import numpy as np

from samplers.errors import BadInput

Signature = tuple[tuple[str, tuple[int, ...], str], ...]
"""Names of variables with shapes and dtypes."""


@dataclass(frozen=True, eq=False)
class RunImage:
    """An open run.

    Args:
        file: its HDF5 image.
    """

    file: h5py.File

    @cached_property
    def named(self) -> dict[str, h5py.h5d.DatasetID]:
        """Its variables by name."""
        root = self.file.id
        names = (root.get_objname_by_idx(i) for i in range(root.get_num_objs()))
        return {name.decode(): h5py.h5d.open(root, name) for name in names}

    @cached_property
    def signature(self) -> Signature:
        """Equal for runs whose variables have the same names, shapes and dtypes."""
        return tuple((name, found.shape, str(found.dtype)) for name, found in self.named.items())

    def values(self, name: str) -> np.ndarray:
        """Numbers of a variable."""
        array = np.empty(self.named[name].shape, self.named[name].dtype)
        self.read_into(name, array)
        return array

    def read_into(self, name: str, out: np.ndarray) -> None:
        """Numbers of a variable into a C-contiguous array of its shape and dtype."""
        self.named[name].read(h5py.h5s.ALL, h5py.h5s.ALL, out)

    def text(self, name: str) -> str:
        """A scalar text."""
        return str(self.file[name].asstr()[()])

    def texts(self, name: str) -> list[str]:
        """A vector of texts."""
        return [str(one) for one in self.file[name].asstr()[...]]

    def attribute(self, name: str) -> str:
        """A text attribute, empty if there is none."""
        value = self.file.attrs.get(name, "")
        return value if isinstance(value, str) else ""


@contextmanager
def opened(image: bytes) -> Iterator[RunImage]:
    """A run's bytes, without their trailer, as an open image.

    Raises:
        BadInput: they are no HDF5 image, or not one of a run.
    """
    try:
        with h5py.File(io.BytesIO(image), "r") as file:
            yield RunImage(file)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            "a run's file must be netCDF4", got=f"{len(image)} bytes ({error})".splitlines()[0], fix="move it away"
        ) from None


def attributes(image: bytes) -> dict[str, str]:
    """The run's text attributes.

    Raises:
        BadInput: the bytes are no HDF5 image.
    """
    with opened(image) as found:
        every: dict[str, Any] = dict(found.file.attrs)
    return {name: value for name, value in every.items() if isinstance(value, str)}
