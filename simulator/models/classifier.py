"""A small convolutional classifier of 8x8 images, whose features are a scale for distances between sets of images.

::

    8x8  x ─ conv.0 ─ conv.1 ─ mean over 2x2 ─ 4x4 ─ conv.2 ─ conv.3 ─ mean over the image ─ features ─ head ─ logits
                                                         │
                                                         └ its first channels: spatial features

It judges samples and is never quantized: it stays in float, has no sites, and no scheme reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from samplers.errors import BadInput


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of a :class:`Classifier`.

    Args:
        channels: feature channels at full and at half resolution; the second is the dimension of the features.
        spatial_channels: channels of the half-resolution map that are spatial features, 16 numbers each.
        classes: number of labels.
        dropout: probability of dropping a feature before the head, training only.
    """

    channels: tuple[int, int] = (32, 64)
    spatial_channels: int = 4
    classes: int = 10
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        if len(self.channels) != 2 or min(*self.channels, self.spatial_channels, self.classes) < 1:
            raise BadInput("sizes of a classifier must be positive", got=self, fix="use the defaults")
        if self.spatial_channels > self.channels[1]:
            raise BadInput(
                "spatial_channels must be at most channels[1]", got=self.spatial_channels, fix="take fewer channels"
            )
        if not 0 <= self.dropout < 1:
            raise BadInput("dropout must be at least 0 and below 1", got=self.dropout, fix="use 0.3")

    def inference(self) -> ClassifierConfig:
        """The same sizes without dropout, which holds no weights."""
        return replace(self, dropout=0.0)


class Described(NamedTuple):
    """What a classifier says of a batch of n images, float32.

    Attributes:
        pooled: (n, channels[1]), the features before the head.
        spatial: (n, 16 spatial_channels), the first channels of the third convolution's map, position by position.
        logits: (n, classes).
    """

    pooled: Tensor
    spatial: Tensor
    logits: Tensor


class Classifier(nn.Module):
    """Logits of the digits in images (n, 1, 8, 8) on [-1, 1]."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        first, second = config.channels
        pairs = ((1, first), (first, first), (first, second), (second, second))
        self.conv = nn.ModuleList(nn.Conv2d(into, out, 3, padding=1) for into, out in pairs)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(second, config.classes)

    def describe(self, x: Tensor) -> Described:
        """Features and logits."""
        conv = self.conv
        x = F.avg_pool2d(F.relu(conv[1](F.relu(conv[0](x)))), 2)
        middle = F.relu(conv[2](x))
        pooled = F.relu(conv[3](middle)).mean(dim=(2, 3))
        spatial = middle[:, : self.config.spatial_channels].flatten(1)
        return Described(pooled, spatial, self.head(self.dropout(pooled)))

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, 8, 8) -> (n, classes)."""
        return self.describe(x).logits
