"""Verdicts that follow from an interval alone; an interval that decides nothing is inconclusive.

- equivalence: does a statistic lie within a margin that was named beforehand? An interval inside it says ``holds``, one
  outside it ``violated``. A wide interval never counts as evidence for an assumption.
- direction: is a statistic above or below a null value?
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

INCONCLUSIVE = 0

EQUIVALENCE = ("inconclusive", "holds", "violated")
DIRECTION = ("inconclusive", "rises", "falls")


def equivalence(low: ArrayLike, high: ArrayLike, margin: float) -> NDArray[np.int8]:
    """Codes into ``EQUIVALENCE`` for the claim -margin <= statistic <= margin; NaN ends are inconclusive."""
    low, high = np.asarray(low), np.asarray(high)
    holds = (low >= -margin) & (high <= margin)
    violated = (low > margin) | (high < -margin)
    return np.where(violated, 2, np.where(holds, 1, INCONCLUSIVE)).astype(np.int8)


def direction(low: ArrayLike, high: ArrayLike, null: float = 0.0) -> NDArray[np.int8]:
    """Codes into ``DIRECTION``: the whole interval above (``rises``) or below (``falls``) the null value."""
    low, high = np.asarray(low), np.asarray(high)
    return np.where(low > null, 1, np.where(high < null, 2, INCONCLUSIVE)).astype(np.int8)


def verdict_variable(
    dims: tuple[str, ...], codes: NDArray[np.int8], meanings: tuple[str, ...], long_name: str, **attrs: float
) -> xr.Variable:
    """Codes with their meanings as CF flags; ``attrs`` hold the margin or the null value."""
    flags = {"flag_values": np.arange(len(meanings), dtype=np.int8), "flag_meanings": " ".join(meanings)}
    return xr.Variable(dims, codes, {"units": "1", "long_name": long_name, **flags, **attrs})


def word(variable: xr.DataArray) -> NDArray[np.str_]:
    """The meaning of each code of a flag variable."""
    meanings = np.array(variable.attrs["flag_meanings"].split())
    return meanings[variable.to_numpy()]
