"""A subsample kept whole, on request: it shows what moments cannot, such as correlation between pixels or steps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class KeptRecord:
    """The prediction and its error at every step, of the first ``count`` samples: a fixed subsample of any run.

    Args:
        kinds: kinds of noise that are recorded.
        steps: sampling steps.
        count: samples to keep; 0 keeps nothing.
        shape: of one sample, (channel, row, column).
    """

    def __init__(self, kinds: tuple[str, ...], steps: int, count: int, shape: tuple[int, ...]) -> None:
        self._count = count
        full = (steps, count, *shape)
        self._epsilon = np.zeros(full, np.float32)
        self._noise = {kind: np.zeros(full, np.float32) for kind in kinds}

    def add(self, kind: str, step: int, members: np.ndarray, reference: Tensor, quantized: Tensor) -> None:
        """Keep those of ``members`` that are among the first; the error is formed in float64, then rounded."""
        kept = members[members < self._count]
        if not len(kept):
            return
        y, other = (t[: len(kept)].to(torch.float64).numpy() for t in (reference, quantized))
        self._epsilon[step, kept] = y
        self._noise[kind][step, kept] = other - y

    def arrays(self) -> dict[str, np.ndarray]:
        """What was kept, by the names of ``simulator.variables``; empty where nothing was asked for."""
        if not self._count:
            return {}
        return {"epsilon_kept": self._epsilon, **{f"noise_kept_{kind}": noise for kind, noise in self._noise.items()}}
