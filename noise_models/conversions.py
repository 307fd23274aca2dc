"""Between the canonical SQNR (power, dB) and every other definition in use.

| source | formula | here |
|---|---|---|
| canonical, MixDQ, torch.ao.ns ``compute_sqnr`` | 10 log10(sum y^2 / sum e^2) | dB |
| PTQD, SNR^Q | norm(y) / norm(e) | amplitude ratio |
| PTQD, SNR^F | abar / (1 - abar) | power ratio |
| toolkits' "snr_error" | sum e^2 / sum y^2 | noise-to-signal ratio |

All are elementwise, in float64; a ratio of 0 is -inf dB, an infinite one +inf dB.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samplers.errors import BadInput
from samplers.validation import require_choice

Values = NDArray[np.float64]

READINGS = ("power", "amplitude")
"""What PTQD's SNR^F is taken for when it is compared with the amplitude ratio SNR^Q."""


def db_from_power_ratio(ratio: ArrayLike) -> Values:
    """10 log10(ratio), for ratio = sum y^2 / sum e^2."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(_ratio(ratio))


def power_ratio_from_db(db: ArrayLike) -> Values:
    """sum y^2 / sum e^2 = 10^(db / 10)."""
    return 10 ** (np.asarray(db, np.float64) / 10)


def db_from_amplitude_ratio(ratio: ArrayLike) -> Values:
    """20 log10(ratio), for PTQD's SNR^Q = norm(y) / norm(e)."""
    with np.errstate(divide="ignore"):
        return 20 * np.log10(_ratio(ratio))


def amplitude_ratio_from_db(db: ArrayLike) -> Values:
    """PTQD's SNR^Q = norm(y) / norm(e) = 10^(db / 20)."""
    return 10 ** (np.asarray(db, np.float64) / 20)


def db_from_noise_to_signal(ratio: ArrayLike) -> Values:
    """-10 log10(ratio), for the inverted ratio sum e^2 / sum y^2 that some toolkits call snr_error."""
    return -db_from_power_ratio(ratio)


def noise_to_signal_from_db(db: ArrayLike) -> Values:
    """sum e^2 / sum y^2 = 10^(-db / 10)."""
    return power_ratio_from_db(-np.asarray(db, np.float64))


def ptqd_snr_f(alpha_cumprod: ArrayLike) -> Values:
    """PTQD's SNR^F(t) = abar / (1 - abar): the power ratio of signal and noise in x_t.

    Raises:
        BadInput: a value outside (0, 1).
    """
    abar = np.asarray(alpha_cumprod, np.float64)
    if not np.all((abar > 0) & (abar < 1)):
        raise BadInput("alpha_cumprod must lie strictly between 0 and 1", got=alpha_cumprod, fix="pass abar_t")
    return abar / (1 - abar)


def ptqd_threshold_db(alpha_cumprod: ArrayLike, reading: str = "power") -> Values:
    """The sqnr_db above which PTQD's rule SNR^Q(t) > SNR^F(t) calls a bit width sufficient.

    The rule compares an amplitude ratio with a power ratio, and leaves open what is meant:

    - ``power``: both as powers, norm(y)^2 / norm(e)^2 > SNR^F, i.e. sqnr_db > 10 log10 SNR^F.
    - ``amplitude``: SNR^F taken for an amplitude ratio, which is the rule as printed: norm(y) / norm(e) > SNR^F, i.e.
      sqnr_db > 20 log10 SNR^F, twice the value in dB.

    The two agree only where SNR^F = 1. Neither reproduces the switch steps that the paper prints.

    Args:
        alpha_cumprod: abar_t, any shape, within (0, 1).
        reading: ``power`` or ``amplitude``.

    Raises:
        BadInput: unknown reading, or abar outside (0, 1).
    """
    require_choice("reading", reading, READINGS)
    snr_f = ptqd_snr_f(alpha_cumprod)
    return db_from_power_ratio(snr_f) if reading == "power" else db_from_amplitude_ratio(snr_f)


def _ratio(ratio: ArrayLike) -> Values:
    values = np.asarray(ratio, np.float64)
    if np.any(values < 0):
        raise BadInput("a ratio of powers or norms must be at least 0", got=ratio, fix="pass the ratio, not its dB")
    return values
