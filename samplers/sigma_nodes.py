"""Where samplers of sigma = sqrt((1 - abar) / abar) step: timesteps, noise levels, and the end of the run.

diffusers' schedulers of this family (Euler, Heun, DPM-Solver++) choose noise levels in float32 and call the network at
timesteps that may be fractions. The choice is repeated here, level by level; with ``tables="float32"`` the levels are
diffusers' own bits. A level becomes abar = 1 / (1 + sigma^2) in float64, from which the coefficients follow.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from samplers.coefficients import Node
from samplers.errors import BadInput
from samplers.schedule import NoiseSchedule
from samplers.table_arithmetic import noise_to_signal

Floats = NDArray[np.float64]
Levels = Callable[[float, float, int], Floats]
"""(sigma_min, sigma_max, n) -> n levels, descending."""

ZERO_SNR = 2.0**-24
"""abar in place of 0 (rescale_betas_zero_snr), as in diffusers: the largest sigma is then 4096."""


def sigma_table(schedule: NoiseSchedule) -> NDArray[np.floating]:
    """sigma of every training timestep, ascending, in the tables' dtype."""
    abar = schedule.alphas_cumprod
    if abar[-1] == 0:
        abar = np.append(abar[:-1], abar.dtype.type(ZERO_SNR))
    return noise_to_signal(abar)


def interpolated(table: NDArray[np.floating], timesteps: Floats) -> Floats:
    """sigma at timesteps, linear between two of the table's."""
    return np.interp(timesteps, np.arange(len(table)), table)


def karras(sigma_min: float, sigma_max: float, count: int) -> Floats:
    """Karras et al. 2022, eq. 5 with rho = 7: sigma^(1/7) evenly spaced."""
    low, high = sigma_min ** (1 / 7), sigma_max ** (1 / 7)
    return (high + np.linspace(0, 1, count) * (low - high)) ** 7.0


def exponential(sigma_min: float, sigma_max: float, count: int) -> Floats:
    """log sigma evenly spaced."""
    return np.exp(np.linspace(np.log(sigma_max), np.log(sigma_min), count))


def beta(sigma_min: float, sigma_max: float, count: int) -> Floats:
    """Quantiles of the Beta(0.6, 0.6) distribution, stretched to the range (Lee et al. 2024)."""
    from scipy.special import betaincinv

    return sigma_min + betaincinv(0.6, 0.6, 1 - np.linspace(0, 1, count)) * (sigma_max - sigma_min)


def timesteps_at(sigmas: Floats, table: NDArray[np.floating]) -> Floats:
    """Where on the training grid each level lies: log sigma is interpolated, levels outside take the nearest end."""
    log_table, log_sigmas = np.log(table), np.log(np.maximum(sigmas, 1e-10))
    below = np.clip(np.searchsorted(log_table, log_sigmas, side="right") - 1, 0, len(table) - 2)
    low, high = log_table[below], log_table[below + 1]
    weight = np.clip((low - log_sigmas) / (low - high), 0, 1)
    return (1 - weight) * below + weight * (below + 1)


def nodes_at(sigmas: Floats, timesteps: Floats, final: float, schedule: NoiseSchedule) -> tuple[Node, ...]:
    """Nodes of descending levels; the last one ends the run at level ``final``.

    Levels are rounded to the tables' dtype first.

    Raises:
        BadInput: levels do not descend. The last may repeat: its step then changes nothing.
    """
    levels = np.append(sigmas, final).astype(schedule.alphas_cumprod.dtype).astype(np.float64)
    gaps = np.diff(levels)
    if (gaps[:-1] >= 0).any() or gaps[-1] > 0:
        raise BadInput(
            "noise levels of a run must descend",
            got=f"{levels[:-1][gaps >= 0][0]:g} followed by {levels[1:][gaps >= 0][0]:g}",
            fix="use fewer steps, or another timestep_spacing or final_sigmas_type",
        )
    abar = 1 / (1 + levels**2)
    return tuple(Node(t, a) for t, a in zip([*map(_plain, timesteps), -1], abar, strict=True))


def _plain(timestep: float) -> float:
    return int(timestep) if float(timestep).is_integer() else float(timestep)
