"""A stored run by its fields; its dataset is read when it is asked for."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import xarray as xr

from samplers.errors import BadInput
from studies.store.files import read
from studies.store.sealed import read_file, unseal

Scalar = str | int | float | bool | None

SPEC = "study_spec"
FACTS = "version_"

SETTING = (
    "model", "sampler", "eta", "num_inference_steps", "conditioning", "guidance", "samples", "batch_size", "threads",
    "sites", "keep",
)  # fmt: skip
"""Fields that say what is sampled: runs that differ in one of them are drawn in panels of their own."""

SYSTEM = ("recipe", "bits", "scheme", "target", "rung", "correction", "state", "calibration_samples")
"""Fields that say what is done to the network: runs that differ in one of them are lines of one panel."""

SEED = "seed"


@dataclass(frozen=True)
class Run:
    """A run's file.

    Args:
        path: of the file.
        key: SHA-256 of its configuration.
        fields: those of ``RunSpec``, with the scheme and its target apart.
        variables: names of what is stored.
        facts: versions and processor that it was made with.
    """

    path: Path
    key: str
    fields: Mapping[str, Scalar] = field(hash=False)
    variables: frozenset[str]
    facts: Mapping[str, str] = field(hash=False)

    def dataset(self) -> xr.Dataset:
        """All that is stored."""
        return _read(self.path)

    def has(self, *variables: str) -> bool:
        """Whether all of these are stored."""
        return set(variables) <= self.variables


class _Kept:
    """Datasets read last, as many as a stated number of bytes holds: opening one takes a quarter of a second."""

    def __init__(self, most: int) -> None:
        self._most, self._found = most, dict[Path, xr.Dataset]()

    def __call__(self, path: Path) -> xr.Dataset:
        found = self._found.pop(path, None)
        self._found[path] = read(path) if found is None else found  # the last one read stands last
        while len(self._found) > 1 and sum(one.nbytes for one in self._found.values()) > self._most:
            del self._found[next(iter(self._found))]
        return self._found[path]


_read = _Kept(2**29)


def open_run(path: Path) -> Run:
    """The run of a file, its digest checked.

    Raises:
        BadInput: the file is damaged, or holds no run of one network on one sampler.
    """
    image = unseal(read_file(path), path)
    try:
        with h5py.File(io.BytesIO(image), "r") as file:  # attributes alone, a hundred times as fast as xarray
            facts = {
                name: clean(str(value)) for name, value in file.attrs.items() if name.startswith(FACTS) or name == "cpu"
            }
            key = str(file.attrs["study_key"] if "study_key" in file.attrs else file.attrs["key"])
            return Run(path, clean(key), _fields(file), frozenset(file), facts)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(
            "a run's file must hold one run of a network", got=f"{path} ({type(error).__name__}: {error})",
            fix="name a store, a results folder of qnoise run, or a run's .nc file",
        ) from None  # fmt: skip


def _fields(file: h5py.File) -> dict[str, Scalar]:
    found = json.loads(file.attrs[SPEC]) if SPEC in file.attrs else _told(file)
    fields = {str(name): _plain(value) for name, value in found.items()}
    fields["scheme"] = str(fields.get("scheme", "")).partition("@")[0]  # a target is a field of its own
    fields["target"] = _plain(_scalar(file, "target"))
    return fields


def _scalar(file: h5py.File, name: str) -> Any:
    value = file[name][()]
    return value.decode() if isinstance(value, bytes) else value.item()


def _told(file: h5py.File) -> dict[str, Any]:
    """Fields of a run that no study made."""
    config = json.loads(file.attrs["config"])
    eta = float(_scalar(file, "eta"))
    return {
        "model": config["model"], "scheme": _scalar(file, "scheme"), "recipe": "", "bits": "",
        "rung": config.get("rung", "complete"), "correction": _scalar(file, "correction"),
        "sampler": _scalar(file, "sampler"), "num_inference_steps": config["sampler"]["num_inference_steps"],
        "eta": None if eta != eta else eta, "state": str(config.get("state_quantized", "")),
        "guidance": float(_scalar(file, "guidance")) if "guidance" in file else 1.0,
        "seed": int(_scalar(file, "seed")), "samples": config["samples"], "sites": config["sites"],
        "keep": config.get("subsample", 0), "batch_size": config["batch_size"], "threads": config["threads"],
    }  # fmt: skip


def _plain(value: Any) -> Scalar:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return clean(value)
    raise TypeError(f"a field must be one value, got {value!r}")


def clean(text: str) -> str:
    """Text without control characters, which neither an SVG nor a terminal should be handed."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
