"""A small diffusion transformer for 8x8 images: patches as tokens, class and timestep through adaLN-zero.

Data flow, depth times the block in the middle::

    x ─ patches ─ + positions ─┬─ norm ─ modulate ─ attention ── gate ─┬─ norm ─ modulate ─ mlp ── gate ─ ... ─ head
                               └───────────────────────────────────────┘
    timestep, label ─ embeddings ─ sum ─ silu ─ modulation of every block and of the head

Every contraction is a plain ``nn.Conv2d`` (the patches, whose stride is their size), ``nn.Linear`` or
``scaled_dot_product_attention``; nothing depends on the data, nothing is done in place, and the module paths
(``blocks.0.attention.query``, ``blocks.0.modulation``) are the site names of every table. Source of the design: Peebles
and Xie 2023 (arXiv:2212.09748), section 3.2, cut down to the size of the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samplers.errors import BadInput
from simulator.models.unet import TimeEmbedding

NULL_LABEL = -1
"""The label of a sample without one: the network then predicts for the mixture of all classes."""


@dataclass(frozen=True)
class DiTConfig:
    """Sizes of a :class:`DiT`.

    Args:
        image_channels: channels of the sample, 1 for grey images.
        image_size: height and width of the sample.
        patch_size: height and width of a patch; divides ``image_size``.
        width: features of a token, a multiple of 4 and of ``heads``.
        depth: number of blocks.
        heads: attention heads.
        mlp_width: hidden features of a block's perceptron.
        condition_width: features of the sum of timestep and label embedding, even. The modulations read it, six times
            ``width`` features per block, so it decides how much of the network they are.
        classes: number of labels, 0 to ``classes - 1``; one more embedding stands for no label.
        dropout: probability of dropping a feature of an attention's output or of a perceptron's hidden layer, training
            only.
        label_dropout: probability of training a sample without its label, which is what guidance needs.
    """

    image_channels: int = 1
    image_size: int = 8
    patch_size: int = 2
    width: int = 96
    depth: int = 4
    heads: int = 4
    mlp_width: int = 256
    condition_width: int = 48
    classes: int = 10
    dropout: float = 0.0
    label_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.patch_size < 1 or self.image_size % self.patch_size:
            raise BadInput("patch_size must divide image_size", got=self.patch_size, fix="1, 2 and 4 divide 8")
        if self.heads < 1 or self.width % self.heads or self.width % 4:
            raise BadInput("width must be a multiple of 4 and of heads", got=self.width, fix="round it up")
        if self.condition_width % 2:
            raise BadInput("condition_width must be even", got=self.condition_width, fix="add 1")
        if self.classes < 1 or self.depth < 1:
            raise BadInput("classes and depth must be positive", got=(self.classes, self.depth), fix="give 1 or more")
        for name in ("dropout", "label_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise BadInput(f"{name} must be in [0, 1)", got=getattr(self, name), fix="0 drops nothing")

    def inference(self) -> DiTConfig:
        """These sizes without what only training uses."""
        return replace(self, dropout=0.0, label_dropout=0.0)


def position_embedding(side: int, width: int, device: torch.device | None = None) -> Tensor:
    """Fixed embedding of a grid's places in row order: (side^2, width) float32.

    The first half of the features stands for the row r, the second for the column; each half is sin(r f_k) for
    k = 0 to width/4 - 1, then cos(r f_k), with f_k = 10000^(-k / (width/4)). Source: the DiT release's
    ``get_2d_sincos_pos_embed``, with the column in its first half.
    """
    quarter = width // 4
    k = torch.arange(quarter, dtype=torch.float32, device=device)
    angle = torch.arange(side, device=device)[:, None] * torch.exp(-math.log(10000.0) / quarter * k)
    waves = torch.cat([angle.sin(), angle.cos()], dim=1)
    row, column = waves[:, None].expand(side, side, -1), waves[None].expand(side, side, -1)
    return torch.cat([row, column], dim=2).reshape(side * side, width)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """``x (1 + scale) + shift``: tokens (B, T, D), shift and scale (B, D) alike for all tokens of a sample."""
    return x * (1.0 + scale[:, None]) + shift[:, None]


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens: (B, T, D) -> (B, T, D); scores are scaled by 1/sqrt(D / heads)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.output = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of each sample."""
        batch, tokens, width = x.shape

        def split(projected: Tensor) -> Tensor:
            return projected.reshape(batch, tokens, self.heads, -1).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(split(self.query(x)), split(self.key(x)), split(self.value(x)))
        return self.output(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Perceptron(nn.Module):
    """Linear, tanh-form GELU, linear, on every token alone: (B, T, D) -> (B, T, D)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.linear1 = nn.Linear(config.width, config.mlp_width)
        self.dropout = nn.Dropout(config.dropout)
        self.linear2 = nn.Linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens."""
        return self.linear2(self.dropout(F.gelu(self.linear1(x), approximate="tanh")))


class Block(nn.Module):
    """Attention and perceptron, each on a normalised, modulated input and through a gate of its own.

    ``modulation`` gives shift, scale and gate of the attention, then those of the perceptron. It starts at zero, so
    both gates are zero and the block is the identity.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.modulation = nn.Linear(config.condition_width, 6 * config.width)
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6, elementwise_affine=False)
        self.attention = SelfAttention(config)
        self.dropout = nn.Dropout(config.dropout)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6, elementwise_affine=False)
        self.mlp = Perceptron(config)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Transform tokens (B, T, D) given the activated condition (B, condition_width)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=1)
        x = x + gate1[:, None] * self.dropout(self.attention(modulate(self.norm1(x), shift1, scale1)))
        return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))


class Head(nn.Module):
    """Norm, modulation and a linear layer to the pixels of a patch: (B, T, D) -> (B, T, patch_size^2 channels).

    Both its linear layers start at zero, so an untrained network predicts 0.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.modulation = nn.Linear(config.condition_width, 2 * config.width)
        self.norm = nn.LayerNorm(config.width, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(config.width, config.patch_size**2 * config.image_channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Read the patches off the tokens."""
        shift, scale = self.modulation(condition).chunk(2, dim=1)
        return self.linear(modulate(self.norm(x), shift, scale))


class DiT(nn.Module):
    """The noise predictor: ``forward(x_t, timestep, label) -> epsilon``.

    Shapes: ``x_t`` (B, image_channels, S, S) float32 with S = image_size, ``timestep`` (B,) int64, ``label`` (B,)
    int64 with 0 to classes - 1 or ``NULL_LABEL`` for none, result like ``x_t``. Without ``label`` no sample has one.
    Any other label raises torch's IndexError. In eval mode the result of a sample does not depend on chance; its last
    bits may depend on the batch size and the thread count, because torch picks kernels by shape.
    """

    def __init__(self, config: DiTConfig | None = None) -> None:
        super().__init__()
        config = config or DiTConfig()
        self.config = config
        patch = config.patch_size
        self.patches = nn.Conv2d(config.image_channels, config.width, patch, stride=patch)
        self.time_embedding = TimeEmbedding(config.condition_width)
        self.label_embedding = nn.Embedding(config.classes + 1, config.condition_width)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.depth)])
        self.head = Head(config)
        self._initialize()

    def forward(self, x: Tensor, timestep: Tensor, label: Tensor | None = None) -> Tensor:
        """Predict the noise in ``x`` at ``timestep``."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        side = self.config.image_size // self.config.patch_size
        tokens = tokens + position_embedding(side, self.config.width, x.device)
        if label is None:
            label = torch.full_like(timestep, NULL_LABEL)
        row = label - NULL_LABEL  # the embedding of no label is the first row
        condition = F.silu(self.time_embedding(timestep) + self.label_embedding(row))
        for block in self.blocks:
            tokens = block(tokens, condition)
        return self._image(self.head(tokens, condition))

    def _image(self, patches: Tensor) -> Tensor:
        """Put patches (B, T, p p C), features in the order row, column, channel, back in place: (B, C, S, S)."""
        channels, patch, size = self.config.image_channels, self.config.patch_size, self.config.image_size
        side = size // patch
        grid = patches.reshape(-1, side, side, patch, patch, channels)
        return grid.permute(0, 5, 1, 3, 2, 4).reshape(-1, channels, size, size)

    def _initialize(self) -> None:
        """Xavier-uniform weights, zero biases, small embeddings; modulations and the output start at zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patches.weight.view(self.config.width, -1))
        assert self.patches.bias is not None
        nn.init.zeros_(self.patches.bias)
        nn.init.normal_(self.label_embedding.weight, std=0.02)
        for layer in (*(block.modulation for block in self.blocks), self.head.modulation, self.head.linear):
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
