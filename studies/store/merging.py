"""``qnoise store merge``: the runs of a study as one labelled Zarr v3 store, its chunks checksummed.

Arrays are laid out before, and every run is scattered to its place; each chunk is written once, whole. Runs of unlike
shape (other steps, other sites) lie in groups of their own. Texts are integer codes with their names as attribute,
which :func:`open_merged` reads back. The whole is renamed into place at the end.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.errors import ZarrUserWarning

from samplers.errors import BadInput
from studies.results import publishing, require_writable
from studies.store.files import read
from studies.store.grouping import Layout, Point, blocks, layout, slabs
from studies.store.images import RunImage, opened
from studies.store.register import Entry, registered
from studies.store.sealed import read_file, unseal
from studies.store.store import Store
from studies.study.study import Study

MOST_HELD = 2**28
"""Bytes of runs that are held at once."""

NAMES = "names"
"""Attribute of a coordinate of texts: the text of each code."""

PRESENT, KEY = "present", "run_key"


@dataclass(frozen=True)
class Merged:
    """What a merge wrote.

    Args:
        groups: runs in each.
        missing: runs of the study that the store does not hold.
    """

    groups: tuple[int, ...]
    missing: int


def merge(
    store: Store, out: Path, study: str | None = None, progress: Callable[[int, int], None] | None = None
) -> Merged:
    """Write the runs of one study as a Zarr store.

    Args:
        store: the runs.
        out: folder of the Zarr store; never an existing one.
        study: its name, where the store has several.
        progress: called with (runs placed, runs in all).

    Raises:
        BadInput: no such study, no run, a damaged file, or a disk that refuses it.
    """
    entry = chosen(store, study)
    asked = Study.from_config(entry.study)
    points: dict[str, Point] = dict(zip(entry.keys, asked.points(), strict=True))
    there = store.keys()
    groups: dict[str, dict[str, Point]] = {}
    for key, point in points.items():
        if key in there:
            groups.setdefault(_shape_of(store, key), {})[key] = point
    if not groups:
        raise BadInput("a merge needs a run", got=f"none of {asked.name}", fix="qnoise study run")
    axes = [tuple(axis.values) for axis in asked.axes]
    require_writable(out.parent)
    total, placed = sum(map(len, groups.values())), 0
    with publishing(out) as temporary:
        root = zarr.create_group(
            temporary, zarr_format=3, attributes={"study": json.dumps(entry.study, sort_keys=True)}
        )
        for number, members in enumerate(groups.values()):
            target = root if len(groups) == 1 else root.create_group(f"group{number}")
            for _ in _Group(store, layout(axes, members), target).write():
                placed += 1
                if progress is not None:
                    progress(placed, total)
        with warnings.catch_warnings():  # part of no specification yet, and of every reader that we know
            warnings.filterwarnings("ignore", "Consolidated metadata", category=ZarrUserWarning)
            zarr.consolidate_metadata(temporary)
    return Merged(tuple(map(len, groups.values())), len(points) - total)


def chosen(store: Store, study: str | None) -> Entry:
    """The study of that name, or the only one.

    Raises:
        BadInput: none, or several and no name.
    """
    found = [entry for entry in registered(store) if study in (None, entry.study["name"])]
    if len(found) != 1:
        names = sorted({entry.study["name"] for entry in registered(store)})
        raise BadInput(
            "one study must be meant", got=f"{len(found)} of {', '.join(names) or 'none'}",
            fix="name it with --study" if len(names) > 1 else "keep one version of it in a store",
        )  # fmt: skip
    return found[0]


def _shape_of(store: Store, key: str) -> str:
    """Equal for runs that can lie in one array: names, shapes and dtypes of all variables, and what labels them."""
    with _image(store, key) as image:
        labels = [image.texts(name) for name in ("moment", "site") if name in image.named]
        return hashlib.sha256(repr((image.signature, labels)).encode()).hexdigest()


def _image(store: Store, key: str) -> Any:
    path = store.run(key)
    return opened(unseal(read_file(path), path))


class _Group:
    """Runs of one shape, and where they go."""

    def __init__(self, store: Store, placed: Layout, target: zarr.Group) -> None:
        self._store, self._layout, self._target = store, placed, target
        self._template = read(store.run(next(iter(placed.places))))
        self._dims = tuple(axis.name for axis in placed.axes)
        self._numbers = [
            str(name) for name, found in self._template.variables.items()
            if name not in self._template.indexes and found.ndim and found.dtype.kind in "iuf"
        ]  # fmt: skip
        self._numbers += [str(name) for name, found in self._template.data_vars.items() if not found.ndim]

    def write(self) -> Any:
        """Write everything; yields after each run."""
        held = self._held()
        arrays = {name: self._array(name, held) for name in self._numbers}
        shape = self._layout.shape
        present = np.zeros(shape, bool)
        keys = np.zeros((*shape, 32), np.uint8)
        scalars: dict[str, dict[str, Any]] = {}
        made_by: dict[str, None] = {}
        at = {place: key for key, place in self._layout.places.items()}
        for block in blocks(shape, held):
            members = [place for place in at if all(b.start <= i < b.stop for i, b in zip(place, block, strict=True))]
            if not members:
                continue
            starts = tuple(b.start for b in block)
            buffers = {name: self._buffer(name, block) for name in self._numbers}
            for place in members:
                key = at[place]
                inner = tuple(i - start for i, start in zip(place, starts, strict=True))
                with _image(self._store, key) as image:
                    for name, buffer in buffers.items():
                        image.read_into(name, buffer[(*inner, ...)])
                    scalars[key] = self._scalars(image)
                    made_by[_environment(image)] = None
                present[place], keys[place] = True, np.frombuffer(bytes.fromhex(key), np.uint8)
                yield key
            for name, buffer in buffers.items():
                arrays[name][(*block, ...)] = buffer
        self._write_labels(scalars)
        self._target.attrs["made_by"] = list(made_by)
        self._put(PRESENT, self._dims, present, {"long_name": "whether the run is there"})
        self._put(KEY, (*self._dims, "key_byte"), keys, {"long_name": "SHA-256 of the run's configuration"})

    def _held(self) -> tuple[int, ...]:
        each = sum(self._template[name].nbytes for name in self._numbers)
        return slabs(self._layout.shape, each, MOST_HELD)

    def _array(self, name: str, held: tuple[int, ...]) -> Any:
        found = self._template[name]
        return self._target.create_array(
            name,
            shape=(*self._layout.shape, *found.shape),
            chunks=(*held, *found.shape) or "auto",
            dtype=found.dtype,
            dimension_names=(*self._dims, *map(str, found.dims)),
            compressors=[ZstdCodec(level=1), Crc32cCodec()],
            fill_value=np.nan if found.dtype.kind == "f" else 0,
            attributes=dict(found.attrs),
        )

    def _buffer(self, name: str, block: tuple[slice, ...]) -> np.ndarray:
        found = self._template[name]
        shape = (*(b.stop - b.start for b in block), *found.shape)
        return np.full(shape, np.nan if found.dtype.kind == "f" else 0, found.dtype)

    def _scalars(self, image: RunImage) -> dict[str, Any]:
        """What a run says of itself in single values: its spec, and how its dataset names things."""
        spec = {name: value for name, value in json.loads(image.attribute("study_spec")).items() if value is not None}
        texts = [name for name, found in self._template.coords.items() if not found.ndim and found.dtype.kind in "UO"]
        return {**spec, **{str(name): image.text(str(name)) for name in texts}}

    def _write_labels(self, scalars: Mapping[str, dict[str, Any]]) -> None:
        coordinates = []
        for axis in self._layout.axes:
            for field in axis.fields:
                own = axis.name if axis.fields == (field,) else field
                coordinates.append(own)
                self._label(own, (axis.name,), [point[field] for point in axis.points])
        for name in self._template.indexes:
            values = self._template[name]
            self._label(str(name), tuple(map(str, values.dims)), [str(one) for one in values.values])
            coordinates.append(str(name))
        keys = list(self._layout.places)
        for name in {name: None for found in scalars.values() for name in found}:
            values = [scalars[key].get(name) for key in keys]
            if name in coordinates or any(value is None for value in values):
                continue
            coordinates.append(name)
            if len({repr(value) for value in values}) == 1:
                self._label(name, (), values[:1])
            else:
                self._scattered(name, keys, values)
        self._target.attrs["coordinates"] = " ".join([*coordinates, PRESENT, KEY])

    def _scattered(self, name: str, keys: Sequence[str], values: Sequence[Any]) -> None:
        codes, names = _coded(values)
        whole = np.zeros(self._layout.shape, codes.dtype)
        for key, code in zip(keys, codes, strict=True):
            whole[self._layout.places[key]] = code
        self._put(name, self._dims, whole, {NAMES: names} if names else {})

    def _label(self, name: str, dims: tuple[str, ...], values: Sequence[Any]) -> None:
        codes, names = _coded(values)
        self._put(name, dims, codes if dims else codes[0], {NAMES: names} if names else {})

    def _put(self, name: str, dims: tuple[str, ...], values: np.ndarray, attrs: dict[str, Any]) -> None:
        array = np.asarray(values)
        self._target.create_array(
            name, data=array, chunks=array.shape or "auto", dimension_names=dims, attributes=attrs,
            compressors=[ZstdCodec(level=1), Crc32cCodec()],
        )  # fmt: skip


def _environment(image: RunImage) -> str:
    """What made a run: versions and processor."""
    names = sorted(name for name in image.file.attrs if name == "cpu" or name.startswith("version_"))
    return ", ".join(f"{name.removeprefix('version_')} {image.attribute(name)}" for name in names)


def _coded(values: Sequence[Any]) -> tuple[np.ndarray, list[str]]:
    """Values as numbers; texts, and what mixes with them, as codes with their names."""
    if all(isinstance(value, bool) for value in values):
        return np.array(values, bool), []
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return np.array(values, np.int64), []
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return np.array(values, np.float64), []
    names = list(dict.fromkeys(str(value) for value in values))
    return np.array([names.index(str(value)) for value in values], np.int64), names


def open_merged(path: Path) -> xr.DataTree:
    """A merged store, texts as texts again; one group where all runs have one shape, else one for each.

    Raises:
        BadInput: it is no merged store, or a chunk is damaged.
    """
    try:
        tree = xr.open_datatree(path, engine="zarr")
        return tree.map_over_datasets(_named)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            "a merged store must be one that qnoise store merge wrote", got=f"{path} ({error})".splitlines()[0],
            fix="merge again",
        ) from None  # fmt: skip


def _named(dataset: xr.Dataset) -> xr.Dataset:
    texts = {}
    for name, found in dataset.variables.items():
        if NAMES in found.attrs:
            texts[name] = (found.dims, np.array(found.attrs[NAMES])[np.asarray(found.values)])
    return dataset.assign_coords(texts).load()
