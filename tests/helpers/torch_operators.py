"""torch's quantized linear and conv2d on operands of ``simulator.targets``; the engine is the caller's choice."""

from __future__ import annotations

import numpy as np
import torch

from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.quantizer import Quantized
from simulator.targets import OutputSpec


def weight_tensor(w: Quantized) -> torch.Tensor:
    """As torch holds it."""
    codes = torch.from_numpy(w.codes)
    if w.scale.size == 1:
        return torch._make_per_tensor_quantized_tensor(codes, float(w.scale.reshape(())), 0)
    scale = torch.from_numpy(w.scale.reshape(-1).astype(np.float64))
    return torch._make_per_channel_quantized_tensor(codes, scale, torch.zeros(len(w.codes), dtype=torch.long), 0)


def activation_tensor(x: Quantized, codes: np.ndarray) -> torch.Tensor:
    """Codes, in any layout, with the scale of ``x``."""
    return torch._make_per_tensor_quantized_tensor(
        torch.from_numpy(np.ascontiguousarray(codes)), float(x.scale.reshape(())), int(x.zero_point.reshape(()))
    )


def linear(x: Quantized, w: Quantized, bias: np.ndarray | None, output: OutputSpec) -> np.ndarray:
    """Output codes."""
    packed = torch.ops.quantized.linear_prepack(weight_tensor(w), None if bias is None else torch.from_numpy(bias))
    left = activation_tensor(x, x.codes)
    return torch.ops.quantized.linear(left, packed, float(output.scale), output.zero_point).int_repr().numpy()


def conv(x: Quantized, w: Quantized, bias: np.ndarray | None, geometry: Geometry, output: OutputSpec) -> np.ndarray:
    """Output codes, channels last."""
    padding = [before for before, _ in geometry.padding]
    packed = torch.ops.quantized.conv2d_prepack(
        weight_tensor(w),
        None if bias is None else torch.from_numpy(bias),
        geometry.stride,
        padding,
        geometry.dilation,
        geometry.groups,
    )
    image = activation_tensor(x, x.codes.transpose(0, 3, 1, 2)).contiguous(memory_format=torch.channels_last)
    codes = torch.ops.quantized.conv2d(image, packed, float(output.scale), output.zero_point).int_repr().numpy()
    return codes.transpose(0, 2, 3, 1)
