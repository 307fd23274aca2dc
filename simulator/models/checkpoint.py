"""Training state and weights on disk: safetensors, written to a temporary file and renamed, never half there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from samplers.errors import BadInput


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` so that a reader sees the old file or the whole new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_tensors(path: Path, groups: dict[str, dict[str, Tensor]], facts: dict[str, Any]) -> None:
    """Write named groups of tensors as ``group/name`` keys, with ``facts`` as JSON in the header."""
    flat = {f"{group}/{name}": t.detach().contiguous() for group, named in groups.items() for name, t in named.items()}
    write_bytes(path, safetensors.torch.save(flat, metadata={"facts": json.dumps(facts)}))


def read_tensors(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read what :func:`write_tensors` wrote.

    Raises:
        BadInput: the file is truncated or not such a file.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
                group, name = key.split("/", 1)
                groups.setdefault(group, {})[name] = file.get_tensor(key)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            "a training checkpoint must be a whole safetensors file",
            got=f"{path} ({error})",
            fix="delete it, or train with resume=False",
        ) from error
    return groups, facts
