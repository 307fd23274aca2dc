"""What a careless caller may pass: any array, any number, any wrong type; and the one rule for what may come back."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from samplers.errors import BadInput

DTYPES = ("i1", "u1", "i2", "u2", "i4", "i8", "u8", "f2", "f4", "f8", "?", "c8", ">i2", ">f4", "O", "U2", "M8[s]")
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3e38, 1e300, -1.0, 0.5)
HUGE = (2**31, 2**63, -(2**63), 2**64, 10**30, -(10**30), 10**400)

wrong = st.sampled_from(
    [None, [], [1, 2], [[1], [1, 2]], (), "8", b"8", 0.5, True, False, {}, object(), int, np.float64(2), np.bool_(True),
     1 + 2j, np.int8, ..., np.ma.masked]
)  # fmt: skip
integers = st.one_of(st.integers(-3, 40), st.sampled_from((127, 128, 255, 256, -128, -129, 32767, 65535, 65536, *HUGE)))
numbers = st.one_of(integers, st.sampled_from(SPECIAL), st.sampled_from([np.float32(0.25), np.int64(3), np.uint8(2)]))
shapes = st.lists(st.sampled_from([0, 1, 1, 2, 2, 3, 3, 4, 5, 8, 16, 64]), max_size=5).map(tuple)


@st.composite
def arrays(draw, dtypes=DTYPES, shape=shapes) -> np.ndarray:
    """Any dtype and shape; special values among floats, extremes among integers; strided or read-only at times."""
    dtype, size = np.dtype(draw(st.sampled_from(dtypes))), draw(shape)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    while np.prod(size, dtype=float) > 4096:
        size = size[:-1]
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        values = rng.integers(info.min, info.max, size, dtype.newbyteorder("="), endpoint=True).astype(dtype)
    elif dtype.kind in "fc":
        values = np.asarray(rng.normal(size=size) * 10.0 ** rng.integers(-3, 4))
        if rng.integers(2):
            values = np.where(rng.random(size) < 0.2, rng.choice(SPECIAL, size), values)
        with np.errstate(all="ignore"):
            values = values.astype(dtype)
    elif dtype.kind in "UM":
        values = np.zeros(size, dtype)
    else:
        values = rng.integers(0, 2, size).astype(dtype)
    if values.ndim and values.shape[0] > 1 and rng.integers(4) == 0:
        values = values[::2]
    if values.ndim > 1 and rng.integers(4) == 0:
        values = values.T
    if rng.integers(8) == 0:
        values = values.copy()
        values.flags.writeable = False
    return values


anything = st.one_of(arrays(), wrong, numbers)


def mostly(right: Any, wrong_one: Any = anything) -> st.SearchStrategy:
    """The right kind of value three times in four, so that deeper checks are reached."""
    return st.one_of(right, right, right, wrong_one)


def outcome(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What the call returns, None where it raises BadInput; any other exception, or a warning, escapes."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return call(*arguments, **options)
        except BadInput as error:
            if not (error.rule and error.fix) or "\n" in error.rule:
                raise
            return None
