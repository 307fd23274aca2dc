"""The UNet is small, deterministic in eval mode, treats samples independently, and has sites with readable names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from samplers.errors import BadInput
from simulator.models.unet import Attention, TimeEmbedding, UNet, UNetConfig


@pytest.fixture(scope="module")
def network() -> UNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return UNet(UNetConfig(dropout=0.5)).eval()


def _inputs(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(batch, 1, 8, 8, generator=generator), torch.arange(batch) * 37 % 1000


def test_unet__has_the_stated_size(network):
    parameters = sum(p.numel() for p in network.parameters())
    assert 200_000 <= parameters <= 450_000


def test_unet__names_its_contractions_after_their_place(network):
    names = {name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    expected = {"conv_in", "conv_out", "down.0.conv1", "down.1.time", "downsample", "mid.attention.query"}
    assert expected | {"mid.attention.output", "upsample", "up.0.shortcut", "time_embedding.linear1"} <= names


def test_unet__drops_nothing_in_eval_mode(network):
    x, timestep = _inputs(4)
    with torch.no_grad():
        assert torch.equal(network(x, timestep), network(x, timestep))


def test_unet__treats_every_sample_alone(network):
    x, timestep = _inputs(6)
    with torch.no_grad():
        together = network(x, timestep)
        alone = torch.cat([network(x[i : i + 1], timestep[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_unet__depends_on_the_timestep(network):
    x, timestep = _inputs(2)
    with torch.no_grad():
        assert not torch.allclose(network(x, timestep), network(x, timestep + 500), atol=1e-3)


def test_attention__is_softmax_of_scaled_scores_written_out():
    config = UNetConfig()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        attention = Attention(64, config)
        x = torch.randn(2, 64, 4, 4)
    with torch.no_grad():
        tokens = attention.norm(x).flatten(2).transpose(1, 2)
        mixed = []
        for head in torch.arange(64).split(16):
            q, k, v = (part(tokens)[:, :, head] for part in (attention.query, attention.key, attention.value))
            mixed.append(torch.softmax(q @ k.transpose(1, 2) / 4.0, dim=-1) @ v)
        expected = x + attention.output(torch.cat(mixed, dim=2)).transpose(1, 2).reshape(x.shape)
        torch.testing.assert_close(attention(x), expected, rtol=1e-5, atol=1e-5)


def test_time_embedding__of_zero_is_sines_zero_and_cosines_one():
    embedding = TimeEmbedding(8)
    embedding.linear1, embedding.linear2 = nn.Identity(), nn.Identity()
    waves = embedding(torch.zeros(1, dtype=torch.int64))
    silu_of_one = torch.nn.functional.silu(torch.ones(1)).item()
    torch.testing.assert_close(waves, torch.tensor([[0.0] * 4 + [silu_of_one] * 4]))


@pytest.mark.parametrize("wrong", [{"channels": (24, 64)}, {"head_channels": 48}, {"time_channels": 33}])
def test_unet_config__rejects_sizes_that_do_not_divide(wrong):
    with pytest.raises(BadInput):
        UNetConfig(**wrong)
