"""The optimal denoiser of a data set: attention from x_t to every training image.

For data that are N points of equal probability, x_t is a mixture of N(sqrt(abar) x_j, (1 - abar) I) and

    E[x0 | x] = sum_j p_j x_j,  p = softmax_j(sqrt(abar) / (1 - abar) x . x_j - abar / (2 (1 - abar)) |x_j|^2),

where |x|^2 has dropped out. That is softmax attention with one query x, keys x_j, values x_j, the scale
sqrt(abar) / (1 - abar), and the second term as an additive mask (Ramsauer et al. 2021, arXiv:2008.02217, for the form;
Karras et al. 2022, arXiv:2206.00364, eq. 57, for the denoiser). Sampling it in full precision gives back training
images: it is the network that a diffusion model would be if it had learned its data by heart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from samplers.errors import BadInput
from simulator.models.exact_denoiser import ExactDenoiser
from simulator.models.mixture import Mixture

if TYPE_CHECKING:
    from samplers.schedule import NoiseSchedule
    from simulator.models.exact_denoiser import AlphaCumprod


class Empirical(Mixture):
    """Points of equal probability: a mixture without variance, with attention as its network.

    The points themselves have no density: log-likelihoods are those of ``marginal(abar)`` at abar < 1.

    Args:
        points: (N, d).

    Raises:
        BadInput: points of another rank, or not finite.
    """

    def __init__(self, points: ArrayLike) -> None:
        rows = np.asarray(points, np.float64)
        if rows.ndim != 2:
            raise BadInput("points must be (N, d)", got=rows.shape, fix="flatten images to rows")
        super().__init__(np.ones(len(rows)), rows, np.zeros(()))

    def denoiser(self, alpha_cumprod: NoiseSchedule | AlphaCumprod, prediction_type: str = "epsilon") -> ExactDenoiser:
        """The exact network."""
        return EmpiricalDenoiser(self, alpha_cumprod, prediction_type)


class EmpiricalDenoiser(ExactDenoiser):
    """E[x0 | x] by ``F.scaled_dot_product_attention``, whose products are the sites ``qk`` and ``pv``.

    epsilon = (x - sqrt(abar) x0) / sqrt(1 - abar) and v = (sqrt(abar) x - x0) / sqrt(1 - abar), elementwise; so noise
    of x0 reaches epsilon multiplied by sqrt(abar / (1 - abar)), 100 at the end of the usual schedule.

    The scale differs between timesteps, and torch's is one number: it is the largest of the batch, and a sample's query
    is x times its own share of it, which is 1 in a sampling run.
    """

    points: Tensor
    squares: Tensor

    def __init__(
        self, data: Empirical, alpha_cumprod: NoiseSchedule | AlphaCumprod, prediction_type: str = "epsilon"
    ) -> None:
        super().__init__(alpha_cumprod, prediction_type)
        self.data = data
        self.register_buffer("points", torch.tensor(data.means))
        self.register_buffer("squares", self.points.square().sum(1))

    def predict(self, x: Tensor, abar: Tensor) -> Tensor:
        """See :meth:`ExactDenoiser.predict`."""
        points, signal, noise = self.points.to(x.dtype)[None], abar**0.5, (1 - abar) ** 0.5
        scale = signal / (1 - abar)
        query = x * (scale / scale.max()).to(x.dtype)
        mask = (-abar / (2 * (1 - abar)) * self.squares).to(x.dtype)
        x0 = F.scaled_dot_product_attention(query[None], points, points, attn_mask=mask, scale=float(scale.max()))[0]
        if self.prediction_type == "sample":
            return x0
        if self.prediction_type == "epsilon":
            return (x - signal.to(x.dtype) * x0) / noise.to(x.dtype)
        return (signal.to(x.dtype) * x - x0) / noise.to(x.dtype)
