"""Arithmetic on schedule tables in their own dtype: float64 by numpy, float32 as the installed torch rounds it.

float32 exists here for one purpose, equality in every bit with diffusers, whose tables and coefficients are made by
torch on CPU. numpy cannot stand in for torch there, because torch's own bits depend on the machine. Measured with torch
2.13 on an AMD EPYC:

- ``torch.linspace`` fills from both ends, with a fused multiply-add where the CPU has one and without where it has not
  (196 of 1000 entries of the linear schedule differ between the two).
- ``torch.sqrt`` goes through MKL and is not correctly rounded: up to 0.75 ulp, 20 % of random values off by one ulp.
- ``torch.cumprod`` accumulates float32 in float64.

So the float32 branches call torch, imported inside the function; the float64 branches never do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.floating]
Scalar = np.floating

DTYPES: dict[str, np.dtype[np.floating]] = {"float64": np.dtype(np.float64), "float32": np.dtype(np.float32)}


def linspace(start: float, stop: float, count: int, dtype: np.dtype) -> Table:
    """``count`` evenly spaced values from ``start`` to ``stop``, both included.

    Returns:
        (count,) in ``dtype``, float64 or float32; ``[start]`` where ``count`` is 1.
    """
    if dtype == np.float64:
        return np.linspace(start, stop, count, dtype=np.float64)
    import torch

    return torch.linspace(start, stop, count, dtype=torch.float32, device="cpu").numpy()


def cumulative_product(factors: Table) -> Table:
    """Running product along a 1-D table, in its dtype: float64 left to right, float32 as torch.cumprod does."""
    if factors.dtype == np.float64:
        return np.multiply.accumulate(factors)
    import torch

    return torch.cumprod(torch.from_numpy(factors), dim=0).numpy()


def square_root(value: Scalar) -> Scalar:
    """Square root of a numpy scalar, in its dtype: float64 correctly rounded, float32 as torch's ``x ** 0.5``.

    Negative values are the caller's to refuse; they give NaN here.
    """
    if value.dtype == np.float64:
        return np.sqrt(value)
    import torch

    # A 0-dim tensor and `** 0.5`, as diffusers writes it: torch.pow with a tensor exponent rounds differently.
    return np.float32((torch.tensor(float(value), dtype=torch.float32) ** 0.5).item())


def zero_terminal_snr(betas: Table) -> Table:
    """betas moved so that abar_{T-1} = 0 and abar_0 stays (Lin et al. 2024, algorithm 1), in their dtype.

    sqrt(abar) is shifted by its last value and scaled back to its first; (T,) with T of at least 2.
    """
    if betas.dtype == np.float64:
        roots = np.sqrt(np.multiply.accumulate(1 - betas))
    else:
        import torch

        roots = torch.cumprod(1.0 - torch.from_numpy(betas.copy()), dim=0).sqrt().numpy()
    first, last = roots[0], roots[-1]
    squares = ((roots - last) * (first / (first - last))) ** 2
    return 1 - np.concatenate([squares[:1], squares[1:] / squares[:-1]])


def noise_to_signal(alphas_cumprod: Table) -> Table:
    """sigma = sqrt((1 - abar) / abar) of a table or of some of its entries, in its dtype; float32 as torch's."""
    ratio = (1 - alphas_cumprod) / alphas_cumprod
    if ratio.dtype == np.float64:
        return np.sqrt(ratio)
    import torch

    return (torch.from_numpy(np.array(ratio)) ** 0.5).numpy()
