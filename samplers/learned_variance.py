"""Variances that the network predicts (Nichol and Dhariwal 2021), as diffusers' DDPMScheduler reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from samplers.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LearnedVariance:
    """From the second half of a network's output to the standard deviation of each element's fresh noise.

    - ``learned``: the output is the variance itself; it must not be negative.
    - ``learned_range`` (eq. 15): with v the output and f = (v + 1) / 2,
      log variance = f log(largest) + (1 - f) log(smallest), which lies in the range for v in [-1, 1] and beyond it
      otherwise.

    Args:
        kind: learned or learned_range.
        smallest: the posterior variance (fixed_small), at least 1e-20 as in diffusers.
        largest: beta_t (fixed_large).
        absorbed: taken out of each element's variance, which stops at 0.
    """

    kind: str
    smallest: float
    largest: float
    absorbed: float = 0.0

    def sigma(self, values: Tensor) -> Tensor:
        """Standard deviations, shaped like ``values``, in its dtype (float32 for half precision). NaN stays NaN.

        Raises:
            BadInput: ``learned`` with a negative variance.
        """
        import torch

        values = values if values.dtype in (torch.float32, torch.float64) else values.float()
        if self.kind == "learned":
            if bool((values < 0).any()):
                raise BadInput(
                    "a network of variance_type learned must predict variances",
                    got=f"{float(values.min())}",
                    fix="use learned_range, if it predicts a place between the two logarithms",
                )
            sigma = values**0.5
        else:
            low, high = (torch.log(values.new_tensor(v)) for v in (self.smallest, self.largest))
            fraction = (values + 1) / 2
            sigma = torch.exp(0.5 * (fraction * high + (1 - fraction) * low))
        if not self.absorbed:
            return sigma
        return (sigma**2 - self.absorbed).clamp(min=0).sqrt()


FLOOR = 1e-20
"""What the smallest variance is raised to, since its logarithm is taken."""
