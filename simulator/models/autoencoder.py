"""A small convolutional autoencoder with a KL-regularised latent: the first stage of a latent diffusion model.

Two resolutions, one residual block at each, in both halves::

    encoder  8x8  x ─ conv_in ─ block ─ downsample ─ 4x4  block ─ norm_out ─ conv_out ─ mean, log variance
    decoder  4x4  z ─ conv_in ─ block ─ upsample ─── 8x8  block ─ norm_out ─ conv_out ─ x

Source of the design: Rombach et al. 2022 (arXiv:2112.10752), section 3.1, its KL variant without perceptual and
adversarial losses, cut down to the size of the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samplers.errors import BadInput


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of an :class:`Autoencoder`.

    Args:
        image_channels: channels of the image, 1 for grey.
        latent_channels: channels of the latent, whose sides are half of the image's.
        channels: feature channels at full and at half resolution, multiples of ``groups``.
        groups: groups of every group norm.
    """

    image_channels: int = 1
    latent_channels: int = 2
    channels: tuple[int, int] = (16, 32)
    groups: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        if min(self.image_channels, self.latent_channels) < 1:
            found = (self.image_channels, self.latent_channels)
            raise BadInput("image and latent need a channel each", got=found, fix="use 1 or more")
        if any(width < 1 or width % self.groups for width in self.channels):
            raise BadInput("channels must be multiples of groups", got=self.channels, fix="round them up")


class Block(nn.Module):
    """norm, silu, conv, norm, silu, conv, plus the input: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Transform features."""
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class Encoder(nn.Module):
    """Images (B, image_channels, H, W) -> mean and log variance, stacked: (B, 2 latent_channels, H/2, W/2)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        wide, deep = config.channels
        self.conv_in = nn.Conv2d(config.image_channels, wide, 3, padding=1)
        self.block1 = Block(wide, config.groups)
        self.downsample = nn.Conv2d(wide, deep, 3, stride=2, padding=1)
        self.block2 = Block(deep, config.groups)
        self.norm_out = nn.GroupNorm(config.groups, deep)
        self.conv_out = nn.Conv2d(deep, 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Encode images of even height and width."""
        h = self.block2(self.downsample(self.block1(self.conv_in(x))))
        return self.conv_out(F.silu(self.norm_out(h)))


class LatentDecoder(nn.Module):
    """Latents (B, latent_channels, h, w) -> images (B, image_channels, 2h, 2w)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        wide, deep = config.channels
        self.conv_in = nn.Conv2d(config.latent_channels, deep, 3, padding=1)
        self.block1 = Block(deep, config.groups)
        self.upsample = nn.Conv2d(deep, wide, 3, padding=1)
        self.block2 = Block(wide, config.groups)
        self.norm_out = nn.GroupNorm(config.groups, wide)
        self.conv_out = nn.Conv2d(wide, config.image_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Decode latents."""
        h = self.upsample(F.interpolate(self.block1(self.conv_in(z)), scale_factor=2.0, mode="nearest"))
        return self.conv_out(F.silu(self.norm_out(self.block2(h))))


class Autoencoder(nn.Module):
    """Both halves: ``encode(x) -> (mean, log_variance)`` of a Gaussian over latents, ``decode(z) -> x``."""

    def __init__(self, config: AutoencoderConfig | None = None) -> None:
        super().__init__()
        config = config or AutoencoderConfig()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = LatentDecoder(config)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latents of images, each (B, latent_channels, H/2, W/2)."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """Images of latents, in the scale in which ``encode`` gives them."""
        return self.decoder(z)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction (B, C, H, W) from the latent ``mean + noise * deviation``, and divergence (B,).

        The divergence is that of the latent's Gaussian from the standard normal one, per latent element:
        KL = mean of (mean^2 + variance - 1 - log variance) / 2.
        """
        mean, log_variance = self.encode(x)
        z = mean + noise * torch.exp(0.5 * log_variance)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean(dim=(1, 2, 3))
        return self.decode(z), divergence
