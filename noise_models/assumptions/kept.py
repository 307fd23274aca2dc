"""The kept subsample of a run: epsilon and its noise element by element, and the residual of the noise in it."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from noise_models.decomposition.split import channel_bias, slope, split
from noise_models.inference.pooling import Array
from samplers.errors import BadInput
from samplers.validation import require_choice

KINDS = ("injected", "accumulated")
PARTS = ("residual", "noise", "varying")
DIMS = ("step", "kept", "channel", "row", "column")


def kept_pair(
    dataset: xr.Dataset, kind: str, *, least: int = 2, what: str = "a statistic of elements"
) -> tuple[Array, Array]:
    """epsilon and its noise in float64, (step, kept, channel, row, column).

    Args:
        dataset: one run's.
        kind: ``injected`` or ``accumulated``.
        least: fewest kept samples that will do.
        what: needs them, for the message.

    Raises:
        BadInput: the run kept none of that kind, or fewer than ``least``.
    """
    require_choice("kind", kind, KINDS)
    name = f"noise_kept_{kind}"
    found = dataset.sizes["kept"] if name in dataset else 0
    if found < least:
        raise BadInput(
            f"{what} needs at least {least} samples kept whole ({name})",
            got=found,
            fix=f"record the run with subsample={least} or more, 64 to 256 as a rule",
        )
    epsilon, noise = (dataset[one].transpose(*DIMS).to_numpy().astype(np.float64) for one in ("epsilon_kept", name))
    return epsilon, noise


def kept_noise(
    dataset: xr.Dataset, kind: str, part: str = "residual", *, least: int = 2, what: str = "a statistic of elements"
) -> Array:
    """Noise of kept samples, or its residual: as :func:`kept_pair`.

    Args:
        dataset: one run's.
        kind: ``injected`` or ``accumulated``.
        part: ``residual``, e - k y - bias with k (which PTQD counts as 0 where negative) and bias of the whole run;
            ``noise``, all of e; ``varying``, the residual less its mean over kept samples at each pixel, scaled by
            sqrt(n / (n - 1)) to keep its variance.
        least: fewest kept samples that will do.
        what: needs them, for the message.

    Raises:
        BadInput: the run kept too few, or epsilon does not vary, so that there is no residual.
    """
    require_choice("part", part, PARTS)
    y, e = kept_pair(dataset, kind, least=least, what=what)
    if part == "noise":
        return e
    k, bias = line(dataset, kind)
    residual = e - k[:, None, None, None, None] * y - bias[:, None, :, None, None]
    if part == "residual":
        return residual
    kept = residual.shape[1]
    return (residual - residual.mean(1, keepdims=True)) * math.sqrt(kept / (kept - 1))


def line(dataset: xr.Dataset, kind: str) -> tuple[Array, Array]:
    """Slope (step,) and bias (step, channel) of the noise of all samples.

    Raises:
        BadInput: epsilon does not vary at some step.
    """
    pooled, channels = (sums.total() for sums in split(dataset, f"epsilon_{kind}"))
    k = slope(pooled)
    if np.isnan(k).any():
        raise BadInput(
            "a residual needs an epsilon that is finite and varies",
            got=f"no slope at step {int(np.isnan(k).argmax())}",
            fix="check the model, and that the run did not diverge",
        )
    return k, channel_bias(channels, k)
