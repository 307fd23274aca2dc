"""The Fréchet distance as a value that says what it was measured with."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from samplers.errors import BadInput
from studies.quality.extrapolation import LEAST_PER_DIMENSION
from studies.quality.gaussians import Gaussians, frechet, require_pair
from studies.quality.reasons import Reason


@dataclass(frozen=True)
class FrechetDistance:
    """A Fréchet distance with its scale.

    Args:
        value: squared distance of the fitted Gaussians, in squared units of the features; biased upwards.
        features: name of the features, the scale: values of other features do not compare.
        dimension: of the features.
        x_samples: in the first set.
        y_samples: in the second, as many.
        reason: whether there were enough.
    """

    value: float
    features: str
    dimension: int
    x_samples: int
    y_samples: int
    reason: Reason


def frechet_distance(x: ArrayLike, y: ArrayLike, *, features: str, allow_small: bool = False) -> FrechetDistance:
    """Fréchet distance of two sets of equal size; ``gaussians.frechet`` has the formula and how it is computed.

    Args:
        x: (n, d).
        y: (n, d).
        features: their name.
        allow_small: give a value from fewer than 20 d samples of each, flagged by its ``reason``.

    Raises:
        BadInput: sizes that differ, or too few samples.
    """
    a, b = require_pair(x, y)
    require_equal_sizes(len(a), len(b))
    reason = size_reason(len(a), a.shape[1], allow_small=allow_small)
    value = float(frechet(Gaussians.of_features(a), Gaussians.of_features(b)))
    return FrechetDistance(value, features, a.shape[1], len(a), len(b), reason)


def size_reason(samples: int, dimension: int, *, allow_small: bool) -> Reason:
    """Whether there are enough samples, or there are not and that is allowed.

    Raises:
        BadInput: too few samples, and not allowed.
    """
    if samples >= LEAST_PER_DIMENSION * dimension:
        return Reason.DEFINED
    if not allow_small:
        raise BadInput(
            f"a Fréchet distance in {dimension} dimensions needs at least {LEAST_PER_DIMENSION * dimension} samples "
            "of each set",
            got=samples,
            fix="draw more, or allow a value that its bias may rule (allow_small, --allow-small)",
        )
    return Reason.FEW_PER_DIMENSION


def require_equal_sizes(x: int, y: int) -> None:
    """Raise BadInput unless both sets have as many samples: the bias depends on both sizes."""
    if x != y:
        raise BadInput(
            "a Fréchet distance takes sets of equal size",
            got=f"{x} and {y}",
            fix="take as many of the larger set as the smaller one has",
        )
