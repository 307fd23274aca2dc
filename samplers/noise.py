"""Counter-based standard normals: what a sample receives depends on its own index and on nothing around it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from torch import Tensor

from samplers.errors import BadInput
from samplers.validation import require_int

_INITIAL, _STEP = 0, 1
_WORD = 64


@dataclass(frozen=True)
class NoiseStream:
    """Standard normal noise for sampling, addressed by (seed, purpose, use, step, sample).

    Value j of a sample comes from block j // 4 of Philox 4x64-10 (Salmon et al. 2011, as numpy implements it), with

    - key: the first 128 bits of SHA-256 over purpose and seed,
    - 256-bit counter, from the highest word: use (0 initial, 1 step), step, sample, block + 1.

    A raw word gives k, its top 53 bits, and a sign, its lowest bit: z = Phi^-1((k + 1/2) / 2^54), negated for bit 0.
    From the lower half of the line alone z is exactly symmetric, with equally fine tails, and finite: |z| <= 8.38.

    Guarantee: batch, order and number of samples or values asked for change no value; distinct seeds or purposes use
    distinct keys (up to a collision of 128 bits). The raw words are the same on every machine; the normals are as far
    as scipy's ndtri is.

    Args:
        seed: an integer of at least 0, of any size.
        purpose: what the noise is for ("evaluate", "calibrate"); a non-empty str. Samples that fit something and
            samples that judge it take different purposes.

    Raises:
        BadInput: an argument breaks its rule.
    """

    seed: int
    purpose: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", require_int("seed", self.seed, 0))
        if not isinstance(self.purpose, str) or not self.purpose:
            raise BadInput("purpose must be a non-empty str", got=repr(self.purpose), fix='pass "evaluate", say')

    def initial(self, samples: ArrayLike | range, shape: Sequence[int]) -> Tensor:
        """x_T of ``samples``.

        Args:
            samples: (n,) indices of at least 0, in any order.
            shape: of one sample; () gives scalars.

        Returns:
            (n, *shape) float64.

        Raises:
            BadInput: an index is negative or not an integer, or ``samples`` is not 1-D.
        """
        return self._normals(_INITIAL, 0, samples, shape)

    def step(self, step: int, samples: ArrayLike | range, shape: Sequence[int]) -> Tensor:
        """Noise z of ``samples`` at loop index ``step`` (at least 0); otherwise as :meth:`initial`."""
        return self._normals(_STEP, require_int("step", step, 0), samples, shape)

    def _normals(self, use: int, step: int, samples: ArrayLike | range, shape: Sequence[int]) -> Tensor:
        rows = _indices(samples)
        count = math.prod(shape)
        raw = np.empty((len(rows), count), dtype=np.uint64)
        for row, words in zip(raw, self._raw(use, step, rows, count), strict=True):
            row[:] = words
        lower = ndtri(((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-54)
        normals = np.where((raw & np.uint64(1)).astype(bool), lower, -lower)
        return torch.from_numpy(normals.reshape(len(rows), *shape))

    def _raw(self, use: int, step: int, rows: list[int], count: int) -> Iterator[NDArray[np.uint64]]:
        key = int.from_bytes(hashlib.sha256(f"qnoise.noise:{self.purpose}:{self.seed}".encode()).digest()[:16])
        at = (use << 3 * _WORD) | (step << 2 * _WORD)
        generator = np.random.Philox(key=key, counter=at)
        blocks = -(-count // 4)
        for sample in rows:
            # Moving one generator costs a third of making one per sample, and numpy reads distances modulo 2^256.
            start = (use << 3 * _WORD) | (step << 2 * _WORD) | (sample << _WORD)
            generator.advance((start - at) % (1 << 4 * _WORD))
            yield generator.random_raw(4 * blocks)[:count]
            at = start + blocks


def _indices(samples: ArrayLike | range) -> list[int]:
    array = np.asarray(samples)
    rule, fix = "samples must be a 1-D list of integers of at least 0", "pass range(n) or an integer array"
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise BadInput(rule, got=f"{array.dtype} of shape {array.shape}", fix=fix)
    if array.size and array.min() < 0:
        raise BadInput(rule, got=array.min(), fix=fix)
    return [int(index) for index in array]
