"""Images of the data that samples are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from samplers.errors import BadInput
from simulator.models.digest import tensors_digest
from simulator.models.digits import load_digits

DIGITS, NONE = "digits", "none"

Images = NDArray[np.float32]


class RealImages(NamedTuple):
    """Images (n, c, h, w) float32 on [-1, 1].

    Attributes:
        real: what samples are compared with; None for no data.
        held_out: what the floor is measured on; None without any.
        config: what determines them, as plain JSON values.
    """

    real: Images | None
    held_out: Images | None
    config: dict[str, Any]


def real_images(source: str) -> RealImages:
    """Images by name or from a file.

    Args:
        source: ``"digits"``, the training and the held-out part of scikit-learn's; ``"none"``; or the path of a
            safetensors file with float32 ``images`` and, if there are any, ``held_out``, both (n, c, h, w) on [-1, 1].

    Raises:
        BadInput: no such file, or its tensors are not such images.
    """
    if source == NONE:
        return RealImages(None, None, {"real": NONE})
    if source == DIGITS:
        digits = load_digits()
        held = {"images": torch.from_numpy(digits.train), "held_out": torch.from_numpy(digits.held_out)}
        return RealImages(digits.train, digits.held_out, {"real": tensors_digest(held)})
    path = Path(source)
    rule = "real images must be digits, none, or a safetensors file with float32 images (n, c, h, w) on [-1, 1]"
    try:
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(rule, got=f"{source} ({error})", fix="write one, with held_out beside images") from error
    if "images" not in tensors or not set(tensors) <= {"images", "held_out"}:
        raise BadInput(rule, got=f"{', '.join(tensors) or 'nothing'} in {source}", fix="name the tensors so")
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or tensor.ndim != 4 or not len(tensor):
            raise BadInput(rule, got=f"{name} {tensor.dtype} {tuple(tensor.shape)}", fix="convert them")
        if not bool(((tensor >= -1) & (tensor <= 1)).all()):
            raise BadInput(rule, got=f"{name} outside [-1, 1]", fix="scale pixels to [-1, 1]")
    held_out = tensors.get("held_out")
    return RealImages(
        tensors["images"].numpy(), None if held_out is None else held_out.numpy(), {"real": tensors_digest(tensors)}
    )
