"""The second half of an autoencoder: from a latent model's samples to pixels, in float.

It is no part of the denoiser: it has no sites, no scheme reaches it, and it runs once, after the last step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from samplers.errors import BadInput


@dataclass(frozen=True)
class Decoder:
    """Pixels of latents: ``module(latents / scale + shift)``, in float32.

    Latents are those of a diffusion model, ``(z - shift) scale`` of the autoencoder's z, so that their variance is near
    1: ``scale`` and ``shift`` are ``scaling_factor`` and ``shift_factor`` of diffusers.

    Args:
        module: (1, c, h, w) float32 -> (1, C, H, W), in eval mode, without gradients.
        scale: positive.
        shift: finite.
        digest: SHA-256 that tells weights and sizes; part of a run's key.
    """

    module: nn.Module
    scale: float
    shift: float
    digest: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise BadInput(
                "a latent's scale must be positive and finite", got=self.scale, fix="read it from the config"
            )
        if not math.isfinite(self.shift):
            raise BadInput("a latent's shift must be finite", got=self.shift, fix="use 0 where there is none")

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pixels of a batch, (n, c, h, w) float32 or float64 -> (n, C, H, W) float32, in the images' own scale.

        Samples are decoded one by one: memory is that of one image, and no sample's bits depend on its batch. float64
        is rounded to float32 first; NaN and infinities go through the network.

        Raises:
            BadInput: another rank, an empty batch, or another dtype.
        """
        if latents.ndim != 4 or not len(latents):
            raise BadInput("latents must be (n, c, h, w), n > 0", got=tuple(latents.shape), fix="add the batch axis")
        if latents.dtype not in (torch.float32, torch.float64):
            raise BadInput("latents must be float32 or float64", got=latents.dtype, fix="convert them")
        z = latents.float().contiguous() / self.scale + self.shift
        return torch.cat([self.module(one[None]) for one in z]).float()

    def config(self) -> dict[str, Any]:
        """What determines its pixels, as plain JSON values."""
        return {"digest": self.digest, "scale": self.scale, "shift": self.shift}
