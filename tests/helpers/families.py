"""Tiny random networks of the families that people quantize, each with an adapter to (module, x, timestep)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import diffusers
import torch
from torch import nn


@dataclass(frozen=True)
class Family:
    """How to make a network, one sample's shape, how to call it, and its sites per forward pass."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    call: Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]
    sites: int


def ramp(batch: int, *shape: int) -> torch.Tensor:
    """A condition that differs between samples and not between runs."""
    return torch.linspace(-1, 1, batch * torch.Size(shape).numel()).reshape(batch, *shape)


class VisionTransformer(nn.Module):
    """Patches by a convolution, learned positions and query, torch's own encoder, a pooled linear head by einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 2, 2)
        self.positions = nn.Parameter(torch.randn(1, 16, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.query = nn.Parameter(torch.randn(1, 1, 8))
        self.pool = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Parameter(torch.randn(8, 5))

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        tokens = self.encoder(self.patch(x).flatten(2).transpose(1, 2) + self.positions)
        pooled, _ = self.pool(self.query.expand(len(x), 1, 8), tokens, tokens)
        return torch.einsum("bqd,dc->bc", pooled, self.head)


class Decoding(nn.Module):
    """nn.Transformer over two sequences, the timestep as one more token."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Transformer(8, 2, 1, 2, 16, batch_first=True)

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        time = timestep.float()[:, None, None].expand(-1, 1, 8) / 1000
        return self.body(torch.cat([x, time], 1), x)


class UNet3D(nn.Module):
    """Convolutions over three axes, grouped and transposed, with a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(2, 4, 3, padding="same")
        self.down = nn.Conv3d(4, 8, 2, 2, groups=2)
        self.up = nn.ConvTranspose3d(8, 4, 2, 2, groups=4)
        self.last = nn.Conv3d(8, 2, 3, padding=2, dilation=2)

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        wide = torch.relu(self.first(x))
        return self.last(torch.cat([wide, self.up(torch.relu(self.down(wide)))], 1))


def _unet() -> nn.Module:
    return diffusers.UNet2DModel(
        sample_size=8, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4, attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def _unet_condition() -> nn.Module:
    return diffusers.UNet2DConditionModel(
        sample_size=8, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4, attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), cross_attention_dim=12,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def _dit() -> nn.Module:
    return diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=6, in_channels=4, out_channels=8, num_layers=2, sample_size=8,
        patch_size=2, norm_num_groups=2, num_embeds_ada_norm=10,
    )  # fmt: skip


def _pixart() -> nn.Module:
    return diffusers.PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=6, in_channels=4, out_channels=8, num_layers=2, sample_size=8,
        patch_size=2, norm_num_groups=2, cross_attention_dim=12, caption_channels=7, use_additional_conditions=False,
    )  # fmt: skip


def _sd3() -> nn.Module:
    return diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=6, num_attention_heads=2,
        joint_attention_dim=9, caption_projection_dim=12, pooled_projection_dim=7, out_channels=4, pos_embed_max_size=8,
        dual_attention_layers=(0,), qk_norm="rms_norm",
    )  # fmt: skip


def _flux() -> nn.Module:
    return diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=9, pooled_projection_dim=7, axes_dims_rope=(2, 2, 4), guidance_embeds=True,
    )  # fmt: skip


def _vae() -> nn.Module:
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16), norm_num_groups=4, sample_size=16,
    )  # fmt: skip


def _call_pixart(m: nn.Module, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    sizes = {"resolution": None, "aspect_ratio": None}
    mask = torch.tensor([[1, 1, 1, 0, 0]]).expand(len(x), 5)
    text = ramp(len(x), 5, 7)
    return m(x, text, timestep=t, encoder_attention_mask=mask, added_cond_kwargs=sizes).sample


def _call_flux(m: nn.Module, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return m(
        hidden_states=x, encoder_hidden_states=ramp(len(x), 5, 9), pooled_projections=ramp(len(x), 7),
        timestep=t / 1000, img_ids=torch.zeros(16, 3), txt_ids=torch.zeros(5, 3), guidance=torch.full((len(x),), 3.5),
    ).sample  # fmt: skip


def _plain(m: nn.Module, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return m(x, t)


FAMILIES = {
    "UNet2DModel": Family(_unet, (3, 8, 8), lambda m, x, t: m(x, t).sample, 59),
    "UNet2DConditionModel": Family(
        _unet_condition, (4, 8, 8), lambda m, x, t: m(x, t, encoder_hidden_states=ramp(len(x), 5, 12))[0], 99
    ),
    "DiT": Family(
        _dit, (4, 8, 8), lambda m, x, t: m(x, timestep=t, class_labels=torch.arange(len(x)), return_dict=False)[0], 27
    ),
    "PixArt": Family(_pixart, (4, 8, 8), _call_pixart, 35),
    "SD3": Family(
        _sd3, (4, 8, 8),
        lambda m, x, t: m(x, ramp(len(x), 5, 9), pooled_projections=ramp(len(x), 7), timestep=t).sample, 43,
    ),
    "Flux": Family(_flux, (16, 4), _call_flux, 34),
    "AutoencoderKL": Family(_vae, (3, 16, 16), lambda m, x, t: m(x).sample, 42),
    "ViT": Family(VisionTransformer, (3, 8, 8), _plain, 1 + 2 * 6 + 5 + 1),
    "nn.Transformer": Family(Decoding, (5, 8), _plain, 6 + 2 * 11),
    "UNet3D": Family(UNet3D, (2, 4, 6, 4), _plain, 4),
}  # fmt: skip


def make(name: str) -> nn.Module:
    """The family's network with seeded weights, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return FAMILIES[name].make().eval().requires_grad_(False)
