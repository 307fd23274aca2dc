"""Which training timesteps a sampler visits, as diffusers' DDIM and DDPM schedulers choose them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from samplers.errors import BadInput
from samplers.validation import require_choice, require_int

TIMESTEP_SPACINGS = ("leading", "trailing", "linspace")


def timesteps(
    timestep_spacing: str, num_inference_steps: int, num_train_timesteps: int, steps_offset: int = 0
) -> NDArray[np.int64]:
    """Timesteps of a run of n = num_inference_steps steps out of T = num_train_timesteps, descending.

    - ``leading``: i (T // n) + steps_offset, i = n-1..0.
    - ``trailing``: round(T - i T/n) - 1, i = 0..n-1. T - 1 is always visited.
    - ``linspace``: round(i (T-1)/(n-1)), i = n-1..0. Both ends are visited; n = 1 gives [0].

    Ties round to even. As in diffusers, steps_offset acts on ``leading`` alone.

    Source: Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps are Flawed", table 2, in diffusers'
    floating-point form. For "trailing" that form gives n + 1 values ending at -1 for some n that do not divide T (at
    T = 1000: n = 61, 103, 121, ...); diffusers then reads the table from its far end, here it is an error.

    Args:
        timestep_spacing: leading, trailing or linspace.
        num_inference_steps: n, from 1 to T.
        num_train_timesteps: T, at least 1.
        steps_offset: at least 0.

    Returns:
        (n,) int64, strictly descending, within 0..T-1, read-only.

    Raises:
        BadInput: an argument breaks its rule, or a timestep falls outside 0..T-1.
    """
    require_choice("timestep_spacing", timestep_spacing, TIMESTEP_SPACINGS)
    total = require_int("num_train_timesteps", num_train_timesteps, 1)
    count = require_int("num_inference_steps", num_inference_steps, 1)
    offset = require_int("steps_offset", steps_offset, 0)
    if count > total:
        raise BadInput(
            "num_inference_steps must not exceed num_train_timesteps",
            got=f"{count} steps of {total}",
            fix=f"use at most {total} steps",
        )
    if timestep_spacing == "leading":
        ascending = np.arange(count) * (total // count) + offset
        chosen = ascending[::-1].astype(np.int64)
    elif timestep_spacing == "trailing":
        chosen = np.round(np.arange(total, 0, -total / count)).astype(np.int64) - 1
    else:
        chosen = np.linspace(0, total - 1, count).round()[::-1].astype(np.int64)
    if chosen[-1] < 0 or chosen[0] >= total:
        outside = chosen[-1] if chosen[-1] < 0 else chosen[0]
        raise BadInput(
            f"every timestep must lie in 0..{total - 1}",
            got=f"{outside} from {timestep_spacing} spacing with {count} steps and steps_offset {offset}",
            fix="use a smaller steps_offset" if outside >= total else "use another number of steps or linspace",
        )
    chosen.setflags(write=False)
    return chosen
