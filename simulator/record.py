"""What a paired run keeps of its tensors: moments per step, in replicate blocks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from simulator.instrument.machines.machine import Emulated
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts
from simulator.moments import SIZE, block_count, merge_into_blocks, row_moments


class ChannelRecord:
    """Joint moments of a signal and its error per step, channel and block, and per sample."""

    def __init__(self, steps: int, samples: int, channels: int) -> None:
        self._blocks = np.zeros((steps, block_count(samples), channels, SIZE))
        self._samples = np.zeros((steps, samples, channels, SIZE))

    def add(self, step: int, members: np.ndarray, reference: Tensor, quantized: Tensor) -> None:
        """Record samples ``members`` at ``step``; tensors (batch, channel, ...) in the state's dtype."""
        batch, channels = reference.shape[:2]
        if reference.dtype != quantized.dtype:  # an arm may keep x_t in another format; float64 holds all exactly
            reference, quantized = reference.double(), quantized.double()
        if reference.dtype in (torch.float16, torch.bfloat16):  # numpy has no bfloat16, the kernel neither
            reference, quantized = reference.float(), quantized.float()
        y, other = (t.reshape(batch * channels, -1).contiguous().numpy() for t in (reference, quantized))
        rows = row_moments(y, other).reshape(batch, channels, SIZE)
        self._samples[step, members] = rows
        merge_into_blocks(self._blocks[step], rows, members)

    def blocks(self) -> np.ndarray:
        """Central moments (step, channel, block, moment)."""
        return central_moments(self._blocks).transpose(0, 2, 1, 3)

    def samples(self) -> np.ndarray:
        """Central moments (step, channel, sample, moment)."""
        return central_moments(self._samples).transpose(0, 2, 1, 3)

    def count(self) -> np.ndarray:
        """Elements (channel, block), the same at every step."""
        return self._blocks[0, :, :, 0].T.astype(np.int64)


class SiteRecord:
    """Joint moments of every site's output and its error per step and block, and counts of what was lost.

    Attributes:
        clipped: operand elements that fell outside their codes' range, (step, site).
        overflowed: outputs of which a register lost something.
        saturated: output codes that clipping changed.
    """

    def __init__(self, steps: int, samples: int, sites: tuple[SiteFacts, ...], *, passes: int = 1) -> None:
        self._index = {facts.key: index for index, facts in enumerate(sites)}
        self._passes = passes  # rows of a forward pass per sample: 2 under guidance
        self._axes = [facts.sample_axis if facts.batched else None for facts in sites]
        self._blocks = np.zeros((steps, len(sites), block_count(samples), SIZE))
        self.clipped, self.overflowed, self.saturated = np.zeros((3, steps, len(sites)), np.int64)

    def add(self, step: int, members: np.ndarray, site: SiteKey, reference: Tensor, found: Emulated) -> None:
        """Record samples ``members`` of ``site`` at ``step``; the reference is float32."""
        index = self._index[site]
        batch, axis = len(members), self._axes[index]
        image = is_image(site)
        y, other = (sample_rows(output, batch, axis, self._passes, image=image) for output in (reference, found.output))
        rows = row_moments(y, other)
        merge_into_blocks(self._blocks[step, index], rows, members)
        self.clipped[step, index] += found.clipped
        self.overflowed[step, index] += found.overflowed
        self.saturated[step, index] += found.saturated

    def blocks(self) -> np.ndarray:
        """Central moments (step, site, block, moment)."""
        return central_moments(self._blocks)

    def count(self) -> np.ndarray:
        """Elements (site, block), the same at every step."""
        return self._blocks[0, :, :, 0].astype(np.int64)


def central_moments(moments: np.ndarray) -> np.ndarray:
    """Central sums become central moments, the count is dropped: (..., 15) -> (..., 14)."""
    stored = moments[..., 1:].copy()
    stored[..., 2:] /= np.maximum(moments[..., :1], 1)
    return stored


def is_image(site: SiteKey) -> bool:
    """Whether a site's output has its channels on axis 1."""
    return site.operation.startswith("conv")


def sample_rows(output: Tensor, batch: int, axis: int | None, passes: int = 1, *, image: bool = False) -> np.ndarray:
    """One row per sample; 2-D images in channels-last order, which is how the engine leaves them.

    With several ``passes`` the output holds all samples of the first, then all of the next: a sample's row is made of
    its parts in each.
    """
    if axis:
        output = output.movedim(axis, 0)
    if image and output.ndim == 4:
        output = output.permute(0, 2, 3, 1)
    if axis is None:  # computed once for all samples, such as an embedding of positions
        output = output.expand(batch, *output.shape)
    elif passes > 1:
        output = output.unflatten(0, (passes, batch, -1)).movedim(1, 0)
    return output.reshape(batch, -1).contiguous().numpy()
