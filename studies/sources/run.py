"""A stored run by its fields; its dataset is read when it is asked for."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

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


@lru_cache(maxsize=16)
def _read(path: Path) -> xr.Dataset:
    return read(path)


def open_run(path: Path) -> Run:
    """The run of a file, its digest checked.

    Raises:
        BadInput: the file is damaged, or holds no run of one network on one sampler.
    """
    image = unseal(read_file(path), path)
    try:
        with xr.open_dataset(io.BytesIO(image), engine="h5netcdf") as dataset:
            fields = _fields(dataset)
            facts = {
                name: clean(str(value))
                for name, value in dataset.attrs.items()
                if name.startswith(FACTS) or name == "cpu"
            }
            key = str(dataset.attrs.get("study_key", dataset.attrs["key"]))
            return Run(path, clean(key), fields, frozenset(map(str, dataset.data_vars)), facts)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(
            "a run's file must hold one run of a network", got=f"{path} ({type(error).__name__}: {error})",
            fix="name a store, a results folder of qnoise run, or a run's .nc file",
        ) from None  # fmt: skip


def _fields(dataset: xr.Dataset) -> dict[str, Scalar]:
    found = json.loads(dataset.attrs[SPEC]) if SPEC in dataset.attrs else _told(dataset)
    fields = {str(name): _plain(value) for name, value in found.items()}
    fields["scheme"] = str(fields.get("scheme", "")).partition("@")[0]  # a target is a field of its own
    fields["target"] = _plain(dataset["target"].item())
    return fields


def _told(dataset: xr.Dataset) -> dict[str, Any]:
    """Fields of a run that no study made."""
    config = json.loads(dataset.attrs["config"])
    eta = float(dataset["eta"])
    return {
        "model": config["model"], "scheme": dataset["scheme"].item(), "recipe": "", "bits": "",
        "rung": config.get("rung", "complete"), "correction": dataset["correction"].item(),
        "sampler": dataset["sampler"].item(), "num_inference_steps": config["sampler"]["num_inference_steps"],
        "eta": None if eta != eta else eta, "state": str(config.get("state_quantized", "")),
        "guidance": float(dataset["guidance"]) if "guidance" in dataset.coords else 1.0,
        "seed": int(dataset["seed"]), "samples": config["samples"], "sites": config["sites"],
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
