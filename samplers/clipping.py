"""What may be done to a predicted x0 before it is used: clip_sample and thresholding, as diffusers names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Clipping(Protocol):
    """Changes a predicted x0. It makes the update nonlinear, and what relies on a linear one has to refuse it."""

    def clip(self, x0: Tensor) -> Tensor:
        """The changed x0, in its dtype; entries that are not changed keep their bits."""
        ...


@dataclass(frozen=True)
class ClipSample:
    """min(max(x0, -clip_sample_range), clip_sample_range); NaN stays."""

    clip_sample_range: float = 1.0

    def clip(self, x0: Tensor) -> Tensor:
        """Clip every element."""
        return x0.clamp(-self.clip_sample_range, self.clip_sample_range)


@dataclass(frozen=True)
class DynamicThresholding:
    """Clip each sample to its own quantile of abs(x0), and divide by it (Saharia et al. 2022, section 2.3).

    s = the dynamic_thresholding_ratio quantile of abs(x0) over the sample, at least 1 and at most sample_max_value;
    x0 becomes min(max(x0, -s), s) / s. As in diffusers, quantiles are formed in float32 at least.
    """

    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0

    def clip(self, x0: Tensor) -> Tensor:
        """Clip and divide sample by sample, (batch, ...)."""
        wide = x0 if x0.dtype in (torch.float32, torch.float64) else x0.float()
        rows = wide.reshape(len(wide), -1)
        s = torch.quantile(rows.abs(), self.dynamic_thresholding_ratio, dim=1)
        s = s.clamp(min=1, max=self.sample_max_value).unsqueeze(1)
        return (rows.clamp(-s, s) / s).reshape(wide.shape).to(x0.dtype)
