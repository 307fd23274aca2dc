"""The decoder of a diffusers pipeline folder: AutoencoderKL in float32, read from disk only.

Weights are safetensors; pickled ones are refused, since unpickling runs code. Latents become the autoencoder's z by
``latents / scaling_factor + shift_factor``, as in diffusers' pipelines.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from samplers.errors import BadInput
from simulator.models.decoder import Decoder

_CLASS = "AutoencoderKL"
_STEM = "diffusion_pytorch_model"
_MISFITS = ("missing_keys", "unexpected_keys", "mismatched_keys")
_PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


class _Decode(nn.Module):
    """``autoencoder.decode(z)`` as a module's forward."""

    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, z: Tensor) -> Tensor:
        return self.autoencoder.decode(z, return_dict=False)[0]  # type: ignore[operator]  # a module's attribute


def load_decoder(folder: str | Path) -> Decoder:
    """Load the decoder of a saved AutoencoderKL.

    Args:
        folder: a pipeline's folder, which holds ``vae/``, or the autoencoder's own.

    Returns:
        The decoder with the config's ``scaling_factor`` and ``shift_factor`` (0 where it has none); its digest covers
        the weights' bytes and the config but for keys that start with an underscore (version, path).

    Raises:
        BadInput: no config or no weights; another class; pickled weights; other dtypes than float32; weights that do
            not fit the config; latents with a mean and deviation per channel; diffusers is absent.
    """
    folder = Path(folder)
    folder = folder / "vae" if (folder / "vae").is_dir() else folder
    config = _config(folder)
    files = _weights(folder)
    _require_float32(files)
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        fix = "pip install 'qnoise[diffusers]'"
        raise BadInput("an autoencoder needs diffusers", got=str(error), fix=fix) from error
    try:
        autoencoder, found = AutoencoderKL.from_pretrained(
            str(folder), use_safetensors=True, local_files_only=True, torch_dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise _unfit(folder, str(error).splitlines()[0]) from error
    # diffusers warns and goes on with random weights where some are missing
    if wrong := {
        kind: names for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if (names := found[kind])
    }:
        raise _unfit(folder, f"{wrong}"[:200])
    autoencoder.encoder = None  # half of the memory; decoding does not touch it
    autoencoder.quant_conv = None
    autoencoder.eval().requires_grad_(False)
    shift = config.get("shift_factor")
    return Decoder(
        _Decode(autoencoder).eval(),
        float(config.get("scaling_factor", autoencoder.config.scaling_factor)),
        0.0 if shift is None else float(shift),
        _digest(config, files),
    )


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        name = config.get("_class_name")
    except (OSError, ValueError, AttributeError) as error:
        raise BadInput(
            "an autoencoder's folder needs a readable config.json",
            got=f"{path} ({error})",
            fix="save it with AutoencoderKL.save_pretrained, or the pipeline with its own",
        ) from error
    if name != _CLASS:
        raise BadInput(f"the autoencoder must be an {_CLASS}", got=f"{name!r} in {path}", fix="no other is supported")
    if config.get("latents_mean") is not None or config.get("latents_std") is not None:
        raise BadInput(
            "latents must have one scale and shift for all channels",
            got=f"latents_mean or latents_std in {path}",
            fix="decode outside, this is not supported",
        )
    return config


def _weights(folder: Path) -> list[Path]:
    """The safetensors files, the shards of a split file in the order of their names."""
    whole, index = folder / f"{_STEM}.safetensors", folder / f"{_STEM}.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise BadInput(
                "the index of shards must be readable", got=f"{index} ({error})", fix="save again"
            ) from error
        files = [folder / Path(name).name for name in names]
        if files and all(file.is_file() for file in files):
            return files
        raise BadInput("all shards of the weights must be there", got=f"{names} in {folder}", fix="copy all of them")
    listing = sorted(path.name for path in folder.iterdir())
    if any(name.endswith(_PICKLED) for name in listing):
        raise BadInput(
            "weights must be safetensors: loading pickled ones runs code",
            got=f"{', '.join(listing)} in {folder}",
            fix="save again with safe_serialization=True, on a machine that may run that code",
        )
    raise BadInput(
        f"weights must be in {_STEM}.safetensors",
        got=f"{', '.join(listing)} in {folder}",
        fix="save without a variant, in float32",
    )


def _require_float32(files: list[Path]) -> None:
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                dtypes = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError) as error:
            raise BadInput(
                "weights must be a whole safetensors file", got=f"{path} ({error})", fix="copy it"
            ) from error
        if dtypes != {"F32"}:
            raise BadInput(
                "an autoencoder's weights must be float32, in which it runs here",
                got=f"{', '.join(sorted(dtypes))} in {path}",
                fix="load it with torch_dtype=torch.float32 and save it again; half precision has lost bits already",
            )


def _digest(config: dict[str, Any], files: list[Path]) -> str:
    public = {name: value for name, value in config.items() if not name.startswith("_")}
    digest = hashlib.sha256(json.dumps(public, sort_keys=True, separators=(",", ":")).encode())
    for path in files:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _unfit(folder: Path, what: str) -> BadInput:
    return BadInput("config and weights of an autoencoder must fit", got=f"{folder} ({what})", fix="copy both together")
