"""Digests of tensors: which weights and which conditions a run used, whatever file they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

_CHUNK = 1 << 22


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hexadecimal, of named tensors: name, dtype, shape and values in order of names.

    Memory layout does not count: channels-last and contiguous tensors of equal values have one digest. NaNs of
    different bits, and 0 and -0, differ.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def module_digest(module: nn.Module) -> str:
    """SHA-256 over every parameter and buffer of a module, those that a checkpoint leaves out included.

    What an empty ``Model.weights_digest`` of a user's own network is replaced by. The code of the module is not in it.
    """
    named = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    return tensors_digest(dict(named))


def files_digest(paths: tuple[Path, ...]) -> str:
    """SHA-256 of the files' bytes, one after the other in order of names; for one file, that of the file."""
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
