"""A small UNet with attention for 8x8 images, built only from operations whose arithmetic can be replayed in integers.

Two resolutions, one residual block on each side of each, one self-attention at the bottom::

    8x8  x ─ conv_in ─ down.0 ─┬────────────────────────────────────── up.0 ─ norm_out ─ conv_out
                               │                                        │
    4x4                    downsample ─┬─ down.1 ─ mid.attention ─ up.1 ─ upsample
                                       └───────────────────────────┘

Every contraction is a plain ``nn.Conv2d``, ``nn.Linear`` or ``scaled_dot_product_attention``; nothing depends on the
data, nothing is done in place, and the module paths (``down.0.conv1``, ``mid.attention.query``) are the site names of
every table. Source of the design: Ho et al. 2020 (arXiv:2006.11239), appendix B, cut down to the size of the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samplers.errors import BadInput


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a :class:`UNet`.

    Args:
        image_channels: channels of the sample, 1 for grey images.
        channels: feature channels at full and at half resolution, multiples of 16.
        time_channels: width of the timestep embedding, even.
        head_channels: channels of one attention head; divides ``channels[1]``.
        groups: groups of every group norm; divides both entries of ``channels``.
        dropout: probability of dropping a feature before the second convolution of a residual block, training only.
    """

    classes: ClassVar[None] = None
    """No labels: the network is unconditional."""

    image_channels: int = 1
    channels: tuple[int, int] = (32, 64)
    time_channels: int = 128
    head_channels: int = 16
    groups: int = 8
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        if any(width % 16 or width % self.groups for width in self.channels):
            raise BadInput("channels must be multiples of 16 and of groups", got=self.channels, fix="round them up")
        if self.channels[1] % self.head_channels:
            raise BadInput("head_channels must divide channels[1]", got=self.head_channels, fix="16 always does")
        if self.time_channels % 2:
            raise BadInput("time_channels must be even", got=self.time_channels, fix="add 1")

    def inference(self) -> UNetConfig:
        """These sizes without what only training uses."""
        return replace(self, dropout=0.0)


class TimeEmbedding(nn.Module):
    """Sinusoids of the timestep (training index), then a two-layer perceptron: (B,) int64 -> (B, time_channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.linear1 = nn.Linear(channels, channels)
        self.linear2 = nn.Linear(channels, channels)

    def forward(self, timestep: Tensor) -> Tensor:
        """Embed timesteps; frequency k is 10000^(-k / (channels / 2)), sines first."""
        half = self.channels // 2
        k = torch.arange(half, dtype=torch.float32, device=timestep.device)
        angle = timestep.float()[:, None] * torch.exp(-math.log(10000.0) / half * k)
        waves = torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)
        return self.linear2(F.silu(self.linear1(waves)))


class ResidualBlock(nn.Module):
    """norm, silu, conv, plus time, norm, silu, conv, plus shortcut: (B, C_in, H, W) -> (B, C_out, H, W)."""

    def __init__(self, channels_in: int, channels_out: int, config: UNetConfig) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(config.groups, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.time = nn.Linear(config.time_channels, channels_out)
        self.norm2 = nn.GroupNorm(config.groups, channels_out)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        same = channels_in == channels_out
        self.shortcut: nn.Module = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Transform features ``x`` given the activated time embedding (B, time_channels)."""
        h = self.conv1(F.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        return self.shortcut(x) + self.conv2(self.dropout(F.silu(self.norm2(h))))


class Attention(nn.Module):
    """Multi-head self-attention over the pixels, with a residual connection: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.heads = channels // config.head_channels
        self.norm = nn.GroupNorm(config.groups, channels)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the pixels of ``x``; scores are scaled by 1/sqrt(head_channels)."""
        batch, channels, height, width = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)

        def split(projected: Tensor) -> Tensor:
            return projected.reshape(batch, height * width, self.heads, -1).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(
            split(self.query(tokens)), split(self.key(tokens)), split(self.value(tokens))
        )
        mixed = self.output(mixed.transpose(1, 2).reshape(batch, height * width, channels))
        return x + mixed.transpose(1, 2).reshape(batch, channels, height, width)


class UNet(nn.Module):
    """The noise predictor: ``forward(x_t, timestep) -> epsilon``.

    Shapes: ``x_t`` (B, image_channels, H, W) float32 with even H and W, ``timestep`` (B,) int64, result like ``x_t``.
    In eval mode the result of a sample does not depend on chance; its last bits may depend on the batch size and the
    thread count, because torch picks kernels by shape.
    """

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        config = config or UNetConfig()
        self.config = config
        wide, deep = config.channels
        self.time_embedding = TimeEmbedding(config.time_channels)
        self.conv_in = nn.Conv2d(config.image_channels, wide, 3, padding=1)
        self.down = nn.ModuleList([ResidualBlock(wide, wide, config), ResidualBlock(deep, deep, config)])
        self.downsample = nn.Conv2d(wide, deep, 3, stride=2, padding=1)
        self.mid = nn.ModuleDict({"attention": Attention(deep, config)})
        self.up = nn.ModuleList([ResidualBlock(2 * wide, wide, config), ResidualBlock(2 * deep, wide, config)])
        self.upsample = nn.Conv2d(wide, wide, 3, padding=1)
        self.norm_out = nn.GroupNorm(config.groups, wide)
        self.conv_out = nn.Conv2d(wide, config.image_channels, 3, padding=1)

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        """Predict the noise in ``x`` at ``timestep``."""
        time = F.silu(self.time_embedding(timestep))
        skip0 = self.down[0](self.conv_in(x), time)
        skip1 = self.downsample(skip0)
        h = self.mid["attention"](self.down[1](skip1, time))
        h = self.up[1](torch.cat([h, skip1], dim=1), time)
        h = self.upsample(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        h = self.up[0](torch.cat([h, skip0], dim=1), time)
        return self.conv_out(F.silu(self.norm_out(h)))
