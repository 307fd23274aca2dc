"""The final samples of a latent model after decoding: their noise in pixels, and the first of them as images."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from simulator.record import ChannelRecord

SHOWN = 64
"""Decoded images kept at most: the first ones."""

SHOWN_ELEMENTS = 2**22
"""Elements of kept images at most, of each kind (16 MiB): 64 images of 8x8 pixels, but 5 of 512x512 in colour."""


class DecodedRecord:
    """Joint moments of decoded reference and decoded quantized samples, per image channel and block and per sample."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._record: ChannelRecord | None = None
        self._shown: dict[str, list[np.ndarray]] = {"decoded_reference": [], "decoded_quantized": []}

    def add(self, members: np.ndarray, reference: Tensor, quantized: Tensor) -> None:
        """Record the pixels of samples ``members``, both (batch, channel, row, column) float32."""
        if self._record is None:
            self._record = ChannelRecord(1, self._samples, reference.shape[1])
        self._record.add(0, members, reference, quantized)
        most = min(SHOWN, max(1, SHOWN_ELEMENTS // reference[0].numel()))
        for shown, pixels in zip(self._shown.values(), (reference, quantized), strict=True):
            shown.append(pixels[: max(most - sum(map(len, shown)), 0)].numpy().copy())

    def arrays(self) -> dict[str, np.ndarray]:
        """What was recorded, by the names of ``simulator.variables``."""
        assert self._record is not None
        return {
            "decoded_accumulated": self._record.blocks()[0],
            "decoded_sample_accumulated": self._record.samples()[0],
            "decoded_count": self._record.count(),
            **{name: np.concatenate(images) for name, images in self._shown.items()},
        }
