"""Transposed convolutions as plain ones: a stretched image, a flipped kernel.

``stride - 1`` zeros go between the image's pixels and the kernel's reach around its border; the rest is a convolution
of stride 1 over the flipped kernel with input and output channels exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic import contract
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.operands import Activation, pad
from simulator.arithmetic.weights import PreparedWeight


@dataclass(frozen=True)
class Stretched:
    """The plain convolution that a transposed one is, over an image of ``stride`` times the size.

    Attributes:
        stride: of the transposed convolution.
        keep: part of the stretched image that the output sees; a padding beyond the kernel's reach takes pixels away.
        plain: stride 1; its padding are the zeros around what is kept.
    """

    stride: tuple[int, ...]
    keep: tuple[slice, ...]
    plain: Geometry

    @classmethod
    def of(
        cls, size: tuple[int, ...], kernel: tuple[int, ...], geometry: Geometry, output_padding: tuple[int, ...]
    ) -> Stretched:
        """For an image and kernel of these spatial sizes.

        Raises:
            BadInput: an output padding out of range, or an output of no element.
        """
        limits = tuple(map(max, geometry.stride, geometry.dilation))
        if any(not 0 <= n < limit for n, limit in zip(output_padding, limits, strict=True)):
            raise BadInput(
                "output_padding must be smaller than stride or dilation",
                got=output_padding,
                fix=f"stay below {limits}",
            )
        long = tuple((n - 1) * s + 1 for n, s in zip(size, geometry.stride, strict=True))
        reach = tuple(d * (k - 1) for d, k in zip(geometry.dilation, kernel, strict=True))
        borders = [
            (r - before, r - after + more)
            for r, (before, after), more in zip(reach, geometry.padding, output_padding, strict=True)
        ]
        keep = tuple(slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(borders, long, strict=True))
        if any(part.stop <= part.start for part in keep):
            raise BadInput(
                "the output must have at least one element", got=f"padding {geometry.padding}", fix="pad less"
            )
        pads = tuple((max(a, 0), max(b, 0)) for a, b in borders)
        return cls(geometry.stride, keep, Geometry((1,) * geometry.axes, pads, geometry.dilation, geometry.groups))

    def image(self, x: np.ndarray, fill: np.ndarray | int) -> np.ndarray:
        """(batch, spatial..., channel) stretched; ``fill``, the zero point, between pixels: one, or one per sample."""
        size = tuple((n - 1) * s + 1 for n, s in zip(x.shape[1:-1], self.stride, strict=True))
        image: np.ndarray = np.empty((len(x), *size, x.shape[-1]), x.dtype)
        image[:] = np.asarray(fill, x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
        image[(slice(None), *(slice(None, None, s) for s in self.stride))] = x
        return np.ascontiguousarray(image[(slice(None), *self.keep)])


def flipped_kernel(w: np.ndarray, groups: int = 1) -> np.ndarray:
    """Torch's (channels, outputs per group, spatial...) as the plain (outputs, channels per group, spatial...)."""
    grouped = np.flip(w, axis=tuple(range(2, w.ndim))).reshape(groups, -1, *w.shape[1:])
    return np.ascontiguousarray(grouped.swapaxes(1, 2)).reshape(-1, len(w) // groups, *w.shape[2:])


def conv_transpose(
    x: Activation,
    weight: PreparedWeight,
    bias: np.ndarray | None = None,
    geometry: Geometry | None = None,
    *,
    output_padding: tuple[int, ...] | int = 0,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Transposed convolution of an image (batch, spatial..., channel) with a prepared weight.

    Args:
        x: left operand, not padded; scales may vary over samples.
        weight: prepared from :func:`flipped_kernel`, with ``parts=geometry.groups``.
        bias: float32 (outputs,), or None.
        geometry: that of the convolution whose gradient this is, as in ``torch.nn.ConvTranspose2d``.
        output_padding: elements added after each spatial axis of the output.
        out: float32 (batch, output size..., outputs), C-contiguous, allocated if absent.

    Raises:
        BadInput: as :func:`contract.conv`; an output of no element, or an output padding out of range.
    """
    geometry = geometry or Geometry.of(len(weight.kernel))
    extra = (output_padding,) * geometry.axes if isinstance(output_padding, int) else tuple(output_padding)
    if not x.bytes.ndim - 2 == len(weight.kernel) == len(extra) == geometry.axes:
        raise BadInput(
            f"x must be (batch, {geometry.axes} spatial axes, channel), the kernel and output_padding of as many",
            got=f"{x.bytes.shape}, kernel {weight.kernel}, output_padding={extra}",
            fix="permute the operands",
        )
    stretched = Stretched.of(x.bytes.shape[1:-1], weight.kernel, geometry, extra)
    image = replace(x, bytes=stretched.image(x.bytes, x.zero[0]))
    return contract.conv(pad(image, stretched.plain), weight, bias, stretched.plain, out=out)
