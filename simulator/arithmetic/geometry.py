"""Where a convolution's kernel meets its image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import INT32_MAX, require_integer, require_kind

SPATIAL = 3
"""Spatial axes of the general case: a 1-D or 2-D convolution has length 1 along the first ones."""


@dataclass(frozen=True)
class Geometry:
    """Stride, padding and dilation of each spatial axis, and the number of channel groups.

    Args:
        stride: steps of the kernel, at least 1, one per spatial axis.
        padding: (before, after) of each axis, at least 0; a padded tap holds the zero point, that is the real value 0.
        dilation: distance of neighbouring taps, at least 1.
        groups: output channel group g sees input channel group g alone; ``groups`` equal to the channels is depthwise.

    Raises:
        BadInput: another number of axes in two fields, or a number out of range.
    """

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def __post_init__(self) -> None:
        for name in ("stride", "padding", "dilation"):
            require_kind(name, getattr(self, name), tuple)
        axes = len(self.stride)
        pairs = all(isinstance(pair, tuple) and len(pair) == 2 for pair in self.padding)
        if not (1 <= axes <= SPATIAL and axes == len(self.padding) == len(self.dilation) and pairs):
            raise BadInput(
                "stride, padding and dilation must name the same 1 to 3 spatial axes, padding as (before, after) pairs",
                got=f"{self.stride}, {self.padding}, {self.dilation}",
                fix="use Geometry.of(axes, ...)",
            )
        for name, numbers, least in (
            ("stride", self.stride, 1),
            ("padding", tuple(n for pair in self.padding for n in pair), 0),
            ("dilation", self.dilation, 1),
            ("groups", (self.groups,), 1),
        ):
            if any(isinstance(n, bool) or not isinstance(n, int) or not least <= n <= INT32_MAX for n in numbers):
                raise BadInput(
                    f"{name} must be integers of at least {least} that fit int32", got=numbers, fix="correct them"
                )

    @classmethod
    def of(
        cls,
        axes: int,
        *,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int | tuple[int, int], ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
    ) -> Geometry:
        """The same with one number for all axes, or for both sides of an axis.

        >>> Geometry.of(2, padding=1) == Geometry((1, 1), ((1, 1), (1, 1)), (1, 1))
        True
        """
        require_integer("axes", axes, 1, SPATIAL)
        for name, value in (("stride", stride), ("padding", padding), ("dilation", dilation)):
            require_kind(name, value, (int, tuple))
        pads = (padding,) * axes if isinstance(padding, int) else padding
        return cls(
            (stride,) * axes if isinstance(stride, int) else stride,
            tuple((pad, pad) if isinstance(pad, int) else pad for pad in pads),
            (dilation,) * axes if isinstance(dilation, int) else dilation,
            groups,
        )

    @property
    def axes(self) -> int:
        """Number of spatial axes."""
        return len(self.stride)

    def output_size(self, size: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, ...]:
        """Spatial size of the output for an image of ``size`` before padding.

        Raises:
            BadInput: another number of axes, or a kernel larger than the padded image.
        """
        if not len(size) == len(kernel) == self.axes:
            raise BadInput(
                f"image and kernel must have {self.axes} spatial axes",
                got=f"{len(size)} and {len(kernel)}",
                fix="give one stride, padding and dilation per axis",
            )
        padded = tuple(n + before + after for n, (before, after) in zip(size, self.padding, strict=True))
        reach = tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, kernel, strict=True))
        if any(n < r for n, r in zip(padded, reach, strict=True)):
            raise BadInput(
                f"the padded image must be at least as large as the kernel, which reaches over {reach}",
                got=padded,
                fix="pad it",
            )
        return tuple((n - r) // s + 1 for n, r, s in zip(padded, reach, self.stride, strict=True))

    @property
    def unpadded(self) -> Geometry:
        """The same over an image that is padded already."""
        return replace(self, padding=((0, 0),) * self.axes)

    def window(self, size: tuple[int, ...], kernel: tuple[int, ...]) -> np.ndarray:
        """What the loops over an image need: int64 rows (output size, kernel, stride, dilation) of three axes."""
        rows = self.output_size(size, kernel), kernel, self.stride, self.dilation
        return np.array([(1,) * (SPATIAL - self.axes) + row for row in rows], np.int64)


def require_geometry(geometry: Geometry | None, rank: int) -> Geometry:
    """``geometry``, or for None the plain one over an image of ``rank`` axes."""
    if geometry is None:
        if not 3 <= rank <= 5:
            raise BadInput(
                "an image must be (batch, 1 to 3 spatial axes, channel)", got=f"rank {rank}", fix="reshape it"
            )
        return Geometry.of(rank - 2)
    require_kind("geometry", geometry, Geometry)
    return geometry
