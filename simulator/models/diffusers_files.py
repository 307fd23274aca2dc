"""What a diffusers checkpoint folder holds, checked before anything is built: configuration, weights, scheduler."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from samplers.errors import BadInput

CONFIG, INDEX, SCHEDULER = "config.json", "model_index.json", "scheduler_config.json"
STEM = "diffusion_pytorch_model"
NETWORKS = ("unet", "transformer")
"""Folders of a pipeline that hold the network that denoises."""

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_FLOAT32, _INTEGERS = "F32", {"I64", "I32", "I16", "I8", "U8", "BOOL"}


@dataclass(frozen=True)
class Checkpoint:
    """Where everything of one network is.

    Attributes:
        folder: of the network.
        config: what its ``config.json`` says.
        weights: its safetensors files, in order of names.
        scheduler: what the pipeline's ``scheduler_config.json`` says, None without one.
    """

    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    scheduler: dict[str, Any] | None

    @property
    def scheduler_name(self) -> str:
        """Class of the scheduler."""
        return str((self.scheduler or {}).get("_class_name"))


def read(folder: Path) -> Checkpoint:
    """Find configuration, weights and scheduler in a network's folder or a pipeline's.

    Raises:
        BadInput: the folder does not exist, holds neither form, code of its own, pickled weights only, other weights
            than float32, or a file that cannot be read.
    """
    if not folder.is_dir():
        raise BadInput("a checkpoint must be a folder that exists", got=str(folder), fix="check the path")
    network, scheduler = folder, None
    if (folder / INDEX).is_file():
        network = folder / _network_of(read_json(folder / INDEX), folder)
        if (folder / "scheduler" / SCHEDULER).is_file():
            scheduler = read_json(folder / "scheduler" / SCHEDULER)
    if not (network / CONFIG).is_file():
        raise BadInput(
            f"a checkpoint folder must hold {CONFIG} or {INDEX}",
            got=f"neither in {network}",
            fix="name the folder that save_pretrained wrote",
        )
    config = read_json(network / CONFIG)
    if config.get("quantization_config"):
        raise BadInput(
            "a checkpoint must not be quantized already", got=f"quantization_config in {network / CONFIG}",
            fix="use the float32 checkpoint that it was made from",
        )  # fmt: skip
    weights = _weights(network)
    _require_float32(weights, network, str(config.get("_class_name")))
    return Checkpoint(network, config, weights, scheduler)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BadInput: it cannot be read, or is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput("a checkpoint's JSON must be readable", got=f"{path} ({error})", fix="copy it again") from error
    if not isinstance(content, dict):
        raise BadInput("a checkpoint's JSON must be an object", got=str(path), fix="copy it again")
    return content


def _network_of(index: dict[str, Any], folder: Path) -> str:
    """The folder of the network in a pipeline."""
    for name in NETWORKS:
        library, kind = index[name] if isinstance(index.get(name), list) and len(index[name]) == 2 else (None, None)
        if kind is None:
            continue
        if library != "diffusers":
            raise BadInput(
                "a pipeline's network must be a class of diffusers; code of a checkpoint is never run",
                got=f"{library}.{kind} in {folder / INDEX}",
                fix="write a module:factory that builds it",
            )
        return name
    raise BadInput(
        f"a pipeline must have one of {', '.join(NETWORKS)}", got=str(folder / INDEX), fix="name a diffusion pipeline"
    )


def _weights(folder: Path) -> tuple[Path, ...]:
    """The safetensors files: one, or the shards that the index lists."""
    single, index = folder / f"{STEM}.safetensors", folder / f"{STEM}.safetensors.index.json"
    if single.is_file():
        return (single,)
    if index.is_file():
        listed = read_json(index).get("weight_map")
        names = sorted({str(name) for name in listed.values()}) if isinstance(listed, dict) else []
        shards = tuple(folder / Path(name).name for name in names)
        missing = [path.name for path in shards if not path.is_file()]
        if missing or not shards:
            raise BadInput("every shard of the index must be there", got=f"{folder} without {missing}", fix="copy them")
        return shards
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
    got, fix = f"no weights in {folder}", "copy them"
    if others:
        got, fix = f"{', '.join(others)} in {folder}", "save the model again in float32, without a variant"
    elif pickled:
        got = f"{', '.join(pickled)} in {folder}; pickle is never read"
        fix = "on a machine that you trust it on, load it with diffusers and call save_pretrained"
    raise BadInput(f"weights must be {single.name} or its shards with their index", got=got, fix=fix)


def _require_float32(weights: tuple[Path, ...], folder: Path, kind: str) -> None:
    """Every floating tensor is float32; read from the headers."""
    for path in weights:
        try:
            with safe_open(path, framework="pt") as file:
                found = {str(file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError, ValueError) as error:
            raise BadInput(
                "weights must be a whole safetensors file", got=f"{path} ({error})", fix="copy it again"
            ) from error
        if other := found - {_FLOAT32} - _INTEGERS:
            raise BadInput(
                "weights must be float32, which is what is quantized here",
                got=f"{', '.join(sorted(other))} in {path}",
                fix=f"convert them once: diffusers.{kind}.from_pretrained({str(folder)!r}, torch_dtype=torch.float32)"
                ".save_pretrained(new_folder)",
            )
