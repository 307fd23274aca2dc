"""Inception-v3 up to its pooled features, in plain torch, for weights that a user has.

Szegedy et al. 2015 (arXiv:1512.00567), with the parameter names of torchvision, so that its state dict loads as it is.
Two sets of weights are known by the rows of ``fc.weight``:

- 1000: torchvision's ImageNet weights; average pools of the mixed blocks count the padding.
- 1008: the 2015-12-05 TensorFlow graph that FID is defined on, as pytorch-fid converts it; its average pools leave the
  padding out, and the last block pools by maximum.

The network sees images (n, 3, 299, 299) on [-1, 1] in both cases: torchvision's ``transform_input`` leads there too.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TORCHVISION, FID = 1000, 1008
SPATIAL_CHANNELS = 7
"""Channels of the 17x17 map that sFID takes: 7 x 17 x 17 = 2023 numbers (Nash et al. 2021, arXiv:2103.03841)."""

SIZE = 299


class InceptionOutput(NamedTuple):
    """What the network says of n images.

    Attributes:
        pooled: (n, 2048), "pool3", the features of FID.
        spatial: (n, 2023), the first 7 channels of the map after ``Mixed_6e``.
        logits: (n, classes).
    """

    pooled: Tensor
    spatial: Tensor
    logits: Tensor


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm in inference, ReLU."""

    def __init__(self, into: int, out: int, kernel: int | tuple[int, int], *, stride: int = 1, same: bool = False):
        super().__init__()
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (rows // 2, columns // 2) if same else (0, 0)
        self.conv = nn.Conv2d(into, out, (rows, columns), stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """(n, into, h, w) -> (n, out, h', w')."""
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """A block of branches whose outputs are stacked; ``count_padding`` is what its average pool does."""

    def __init__(self, count_padding: bool, **branches: ConvNorm) -> None:
        super().__init__()
        self.count_padding = count_padding
        for name, branch in branches.items():
            self.add_module(name, branch)

    def chain(self, x: Tensor, *names: str) -> Tensor:
        """x through these convolutions in turn."""
        for name in names:
            x = self.get_submodule(name)(x)
        return x

    def averaged(self, x: Tensor) -> Tensor:
        """Mean over 3x3."""
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=self.count_padding)


class MixedA(Mixed):
    """35x35."""

    def __init__(self, into: int, pooled: int, count_padding: bool) -> None:
        super().__init__(
            count_padding,
            branch1x1=ConvNorm(into, 64, 1),
            branch5x5_1=ConvNorm(into, 48, 1),
            branch5x5_2=ConvNorm(48, 64, 5, same=True),
            branch3x3dbl_1=ConvNorm(into, 64, 1),
            branch3x3dbl_2=ConvNorm(64, 96, 3, same=True),
            branch3x3dbl_3=ConvNorm(96, 96, 3, same=True),
            branch_pool=ConvNorm(into, pooled, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, into, h, w) -> (n, 224 + pooled, h, w)."""
        parts = (
            self.chain(x, "branch1x1"),
            self.chain(x, "branch5x5_1", "branch5x5_2"),
            self.chain(x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
            self.chain(self.averaged(x), "branch_pool"),
        )
        return torch.cat(parts, 1)


class MixedB(Mixed):
    """From 35x35 to 17x17."""

    def __init__(self, into: int) -> None:
        super().__init__(
            True,
            branch3x3=ConvNorm(into, 384, 3, stride=2),
            branch3x3dbl_1=ConvNorm(into, 64, 1),
            branch3x3dbl_2=ConvNorm(64, 96, 3, same=True),
            branch3x3dbl_3=ConvNorm(96, 96, 3, stride=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, into, h, w) -> (n, 480 + into, h', w')."""
        double = self.chain(x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
        return torch.cat((self.chain(x, "branch3x3"), double, F.max_pool2d(x, 3, stride=2)), 1)


class MixedC(Mixed):
    """17x17, with 7x7 convolutions taken apart."""

    def __init__(self, inner: int, count_padding: bool) -> None:
        row, column = (1, 7), (7, 1)
        super().__init__(
            count_padding,
            branch1x1=ConvNorm(768, 192, 1),
            branch7x7_1=ConvNorm(768, inner, 1),
            branch7x7_2=ConvNorm(inner, inner, row, same=True),
            branch7x7_3=ConvNorm(inner, 192, column, same=True),
            branch7x7dbl_1=ConvNorm(768, inner, 1),
            branch7x7dbl_2=ConvNorm(inner, inner, column, same=True),
            branch7x7dbl_3=ConvNorm(inner, inner, row, same=True),
            branch7x7dbl_4=ConvNorm(inner, inner, column, same=True),
            branch7x7dbl_5=ConvNorm(inner, 192, row, same=True),
            branch_pool=ConvNorm(768, 192, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, 768, h, w) -> the same shape."""
        parts = (
            self.chain(x, "branch1x1"),
            self.chain(x, *(f"branch7x7_{i}" for i in (1, 2, 3))),
            self.chain(x, *(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5))),
            self.chain(self.averaged(x), "branch_pool"),
        )
        return torch.cat(parts, 1)


class MixedD(Mixed):
    """From 17x17 to 8x8."""

    def __init__(self) -> None:
        super().__init__(
            True,
            branch3x3_1=ConvNorm(768, 192, 1),
            branch3x3_2=ConvNorm(192, 320, 3, stride=2),
            branch7x7x3_1=ConvNorm(768, 192, 1),
            branch7x7x3_2=ConvNorm(192, 192, (1, 7), same=True),
            branch7x7x3_3=ConvNorm(192, 192, (7, 1), same=True),
            branch7x7x3_4=ConvNorm(192, 192, 3, stride=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, 768, h, w) -> (n, 1280, h', w')."""
        parts = (
            self.chain(x, "branch3x3_1", "branch3x3_2"),
            self.chain(x, *(f"branch7x7x3_{i}" for i in (1, 2, 3, 4))),
            F.max_pool2d(x, 3, stride=2),
        )
        return torch.cat(parts, 1)


class MixedE(Mixed):
    """8x8, with branches that split; ``maximum`` pools by it in place of the mean."""

    def __init__(self, into: int, count_padding: bool, maximum: bool) -> None:
        super().__init__(
            count_padding,
            branch1x1=ConvNorm(into, 320, 1),
            branch3x3_1=ConvNorm(into, 384, 1),
            branch3x3_2a=ConvNorm(384, 384, (1, 3), same=True),
            branch3x3_2b=ConvNorm(384, 384, (3, 1), same=True),
            branch3x3dbl_1=ConvNorm(into, 448, 1),
            branch3x3dbl_2=ConvNorm(448, 384, 3, same=True),
            branch3x3dbl_3a=ConvNorm(384, 384, (1, 3), same=True),
            branch3x3dbl_3b=ConvNorm(384, 384, (3, 1), same=True),
            branch_pool=ConvNorm(into, 192, 1),
        )
        self.maximum = maximum

    def forward(self, x: Tensor) -> Tensor:
        """(n, into, h, w) -> (n, 2048, h, w)."""
        single = self.chain(x, "branch3x3_1")
        double = self.chain(x, "branch3x3dbl_1", "branch3x3dbl_2")
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.maximum else self.averaged(x)
        parts = (
            self.chain(x, "branch1x1"),
            *(self.chain(single, f"branch3x3_2{side}") for side in "ab"),
            *(self.chain(double, f"branch3x3dbl_3{side}") for side in "ab"),
            self.chain(pooled, "branch_pool"),
        )
        return torch.cat(parts, 1)


class InceptionV3(nn.Module):
    """Inception-v3 without its auxiliary head.

    Args:
        classes: rows of the last layer: ``TORCHVISION`` or ``FID``, which also says how blocks pool.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        pads, fid = classes != FID, classes == FID
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3, same=True)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3)
        self.Mixed_5b = MixedA(192, 32, pads)
        self.Mixed_5c = MixedA(256, 64, pads)
        self.Mixed_5d = MixedA(288, 64, pads)
        self.Mixed_6a = MixedB(288)
        self.Mixed_6b = MixedC(128, pads)
        self.Mixed_6c = MixedC(160, pads)
        self.Mixed_6d = MixedC(160, pads)
        self.Mixed_6e = MixedC(192, pads)
        self.Mixed_7a = MixedD()
        self.Mixed_7b = MixedE(1280, pads, maximum=False)
        self.Mixed_7c = MixedE(2048, pads, maximum=fid)
        self.fc = nn.Linear(2048, classes)

    def forward(self, x: Tensor) -> InceptionOutput:
        """(n, 3, 299, 299) on [-1, 1] -> features and logits."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        spatial = x[:, :SPATIAL_CHANNELS].flatten(1)
        pooled = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean(dim=(2, 3))
        return InceptionOutput(pooled, spatial, self.fc(pooled))
