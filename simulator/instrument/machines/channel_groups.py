"""Groups of channels of a run-time operand, each with a calibrated scale and zero point, and what they make of a sum.

Channels lie along the contracted axis, but for the value of P V, whose channels are the product's columns; heads are a
batch axis. Scales that vary over columns or heads multiply the finished sum. Along the contracted axis each group is an
integer partial sum, rescaled and added in the group register, groups in the order of their numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.granularity import PerAxis
from simulator.arithmetic.quantizer import Quantized, QuantSpec, quantize

VALUE = "value"
"""Role of the operand whose channels are columns of the product."""


@dataclass(frozen=True, eq=False)
class ChannelScales:
    """Parameters of one operand.

    Attributes:
        group: int64 (channels,) or (heads, channels), the group of each.
        scale: float32, one per group.
        zero_point: int32, one per group.
    """

    group: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray

    def quantized(self, values: np.ndarray, spec: QuantSpec, axes: tuple[int, ...]) -> Quantized:
        """Codes of ``values``, whose channels (heads and channels) lie along ``axes``; parameters per channel.

        Raises:
            BadInput: another number of channels or heads.
        """
        found = tuple(values.shape[axis] for axis in axes)
        if found != self.group.shape:
            raise BadInput(
                "an operand must have the channels of its groups", got=f"{found}, not {self.group.shape}",
                fix="calibrate with this model",
            )  # fmt: skip
        shape = [1] * values.ndim
        for axis, length in zip(axes, found, strict=True):
            shape[axis] = length
        scale, zero = (each[self.group].reshape(shape) for each in (self.scale, self.zero_point))
        return quantize(values, replace(spec, granularity=PerAxis(axes)), scale, zero)


Groups = Mapping[str, ChannelScales]
"""By role; operands with one scale have none."""

NO_GROUPS: Groups = MappingProxyType({})


def grouped_axes(
    groups: Groups, role: str, rank: int, *, image: bool = False
) -> tuple[ChannelScales, tuple[int, ...]] | None:
    """An operand's groups and the axes, ascending, along which they lie; None without.

    Args:
        groups: of a site.
        role: of the operand.
        rank: of the operand.
        image: whether it is (batch, channel, spatial...); else channels are last, of ``value`` the last but one.
    """
    if role not in groups:
        return None
    channel = 1 if image else rank - 2 if role == VALUE else rank - 1
    heads = (rank - 3,) if groups[role].group.ndim == 2 else ()
    return groups[role], (*heads, channel)


def contracted_groups(group: np.ndarray, channels: int | None = None) -> np.ndarray:
    """Labels of the channels that are summed over: of the first head, or of a convolution's first group of them."""
    return group[0] if group.ndim == 2 else group[:channels]


def parts_of(labels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Channels that agree in every labelling, as ascending indices: ordered by the first label, then the second, ...

    Args:
        labels: integers (channels,), at least one.
    """
    if not labels[0].size:
        return [np.arange(0)]
    distinct, part = np.unique(np.stack(labels), axis=1, return_inverse=True)
    return [np.flatnonzero(part.reshape(-1) == index) for index in range(distinct.shape[1])]
