"""Is the bias of the noise the same at every pixel? A pattern shared by all samples is neither noise nor such a bias.

Quantized weights are the same in every pass, so part of what they add is the same in every sample. PTQD's bias is one
number per channel, so such a pattern stays in its residual, looks like correlation in space and between steps, and no
fresh noise can stand in for it.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from noise_models.assumptions.kept import kept_noise
from noise_models.inference.labelled import interval_variables, result_dataset
from noise_models.inference.pooling import Array
from noise_models.inference.replication import interval_of_sums
from noise_models.inference.verdicts import EQUIVALENCE, equivalence, verdict_variable

MARGIN = 0.05
"""Share of the residual's power that counts as none."""


def measure_pattern(
    dataset: xr.Dataset, kind: str = "injected", *, part: str = "residual", confidence: float = 0.95,
    margin: float = MARGIN,
) -> xr.Dataset:  # fmt: skip
    """Share of the residual's power that is the same at a pixel in all samples, over kept samples.

    With m(x) the mean over samples at pixel x: sum m^2 / sum of mean r^2, m^2 estimated without its upward bias by the
    products of distinct samples, [(sum r)^2 - sum r^2] / (n (n - 1)). It may come out below 0 by chance.

    Args:
        dataset: one run's, with three samples or more kept whole.
        kind: ``injected`` or ``accumulated``.
        part: ``residual``, or ``noise`` for all of it, bias included.
        confidence: nominal coverage.
        margin: largest share that counts as none.

    Returns:
        ``pattern_share`` (step,) with standard error, ends and reason, and its ``_verdict``.

    Raises:
        BadInput: too few samples kept, an unknown choice, or no residual.
    """
    noise = kept_noise(dataset, kind, part, least=3, what="the pattern")
    by_sample = np.moveaxis(noise, 1, 0).reshape(noise.shape[1], noise.shape[0], -1)

    def share(n: Array, values: Array, squares: Array) -> Array:
        distinct = ((values**2).sum(-1) - squares) / (n - 1)
        return distinct / squares

    sums = np.ones(by_sample.shape[:2]), by_sample, (by_sample**2).sum(-1)
    interval = interval_of_sums(share, *sums, confidence=confidence)
    data = interval_variables(
        "pattern_share", interval, ("step",), unit="1", long_name=f"share of a fixed pattern in the {part}",
        definition=f"power of the mean over samples at each pixel / power of all; {kind} noise of kept samples",
        confidence=confidence,
    )  # fmt: skip
    data["pattern_share_verdict"] = verdict_variable(
        ("step",), equivalence(interval.low, interval.high, margin), EQUIVALENCE, "whether no pattern is shared",
        margin=margin,
    )  # fmt: skip
    return result_dataset(dataset, f"noise_kept_{kind}", data)
