"""A fixed shuffling of each set before it is cut: the order of samples often means something.

scikit-learn's digits come in runs of 0 to 9 and writer by writer, and conditioned samples take every class in turn: cut
as they come, each block would hold one class. The order depends on the number of samples and on the role alone, so that
sets on shared noise stay paired, while the two sides of a comparison are cut independently.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

_KEY = 1


class Role(IntEnum):
    """The side of a comparison."""

    GENERATED = 0
    REFERENCE = 1


def order(count: int, role: Role, which: int = 0) -> NDArray[np.int64]:
    """A permutation of ``count`` samples: the same numbers on every machine and in every version.

    Args:
        count: samples.
        role: the side.
        which: further permutations, where a mean over several is taken.
    """
    keys = np.random.Philox(key=[_KEY, int(role)], counter=[0, 0, which, count]).random_raw(count)
    return np.argsort(keys, kind="stable")
