"""The DiT starts as identity blocks that predict 0, treats samples alone, and reads labels only where one is given."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from samplers.errors import BadInput
from simulator.models.architectures import build
from simulator.models.dit import NULL_LABEL, DiT, DiTConfig, SelfAttention, modulate, position_embedding


def _network(config: DiTConfig, *, trained: bool) -> DiT:
    """A seeded network; ``trained`` gives the layers that start at zero some weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = DiT(config).eval().requires_grad_(False)
        if trained:
            for parameter in network.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.2)
    return network


@pytest.fixture(scope="module")
def network() -> DiT:
    return _network(DiTConfig(dropout=0.5, label_dropout=0.5), trained=True)


def _inputs(batch: int, size: int = 8, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(batch, channels, size, size, generator=generator)
    return x, torch.arange(batch) * 37 % 1000, torch.arange(batch) % 11 - 1


def test_dit__has_the_stated_size(network):
    parameters = sum(p.numel() for p in network.parameters())
    assert 200_000 <= parameters <= 495_000


def test_dit__contracts_only_in_linear_layers_and_the_patches(network):
    convolutions = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    linear = {name for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    assert convolutions == ["patches"]
    expected = {"blocks.0.attention.query", "blocks.0.modulation", "blocks.3.mlp.linear2", "head.modulation"}
    assert expected | {"head.linear", "time_embedding.linear1"} <= linear


@pytest.mark.parametrize(("size", "patch", "channels"), [(8, 2, 1), (8, 1, 1), (8, 4, 3), (12, 3, 2)])
def test_dit__returns_the_shape_it_was_given(size, patch, channels):
    config = DiTConfig(image_channels=channels, image_size=size, patch_size=patch, width=16, depth=1)
    x, timestep, label = _inputs(3, size, channels)
    assert _network(config, trained=True)(x, timestep, label).shape == x.shape


def test_dit__predicts_zero_and_leaves_tokens_alone_before_training():
    network = _network(DiTConfig(), trained=False)
    x, timestep, label = _inputs(4)
    assert not network(x, timestep, label).any()
    tokens, condition = torch.randn(2, 16, 96), torch.randn(2, 48)
    for block in network.blocks:
        assert torch.equal(block(tokens, condition), tokens)


def test_dit__starts_with_weights_in_every_other_layer():
    silent = {
        name for name, parameter in _network(DiTConfig(), trained=False).named_parameters() if not parameter.any()
    }
    weights = {name for name in silent if not name.endswith("bias")}
    assert weights == {f"blocks.{i}.modulation.weight" for i in range(4)} | {
        "head.modulation.weight",
        "head.linear.weight",
    }


def test_block__puts_each_shift_scale_and_gate_where_the_paper_does(network):
    block = network.blocks[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        x, condition = torch.randn(2, 16, 96), torch.randn(2, 48)
    parts = [block.modulation(condition)[:, None, i * 96 : (i + 1) * 96] for i in range(6)]
    h = F.layer_norm(x, (96,), eps=1e-6) * (1 + parts[1]) + parts[0]
    y = x + parts[2] * block.attention(h)
    h = F.layer_norm(y, (96,), eps=1e-6) * (1 + parts[4]) + parts[3]
    torch.testing.assert_close(block(x, condition), y + parts[5] * block.mlp(h))


def test_modulate__is_the_same_for_all_tokens_of_a_sample():
    x = torch.ones(2, 3, 4)
    shift, scale = torch.arange(8.0).reshape(2, 4), torch.tensor([[1.0], [3.0]]).expand(2, 4)
    expected = torch.tensor([[2.0, 3, 4, 5], [8, 9, 10, 11]])
    assert torch.equal(modulate(x, shift, scale), expected[:, None].expand(2, 3, 4))


def test_patches__come_back_to_their_places():
    """With a head that copies features, the output at a pixel is the input at that pixel."""
    config = DiTConfig(image_channels=2, image_size=6, patch_size=2, width=8, depth=1, heads=1)
    network = _network(config, trained=False)
    kernel = torch.zeros(8, 2, 2, 2)
    for row in range(2):
        for column in range(2):
            for channel in range(2):
                kernel[(row * 2 + column) * 2 + channel, channel, row, column] = 1.0
    network.patches.weight.copy_(kernel)
    x = _inputs(2, 6, 2)[0]
    assert torch.equal(network._image(network.patches(x).flatten(2).transpose(1, 2)), x)


def test_position_embedding__tells_every_place_apart_and_reads_rows_before_columns():
    embedding = position_embedding(4, 96)
    assert embedding.shape == (16, 96)
    assert torch.cdist(embedding, embedding).fill_diagonal_(9).min() > 0.5
    first, second = embedding.reshape(4, 4, 96)[2, 1], embedding.reshape(4, 4, 96)[2, 3]
    assert torch.equal(first[:48], second[:48])
    assert not torch.equal(first[48:], second[48:])
    assert embedding.reshape(4, 4, 96)[2, 1, 0] == torch.tensor(2.0).sin()


def test_dit__sees_where_a_patch_lies(network):
    x, timestep, label = _inputs(1)
    assert not torch.allclose(network(x.roll(4, dims=3), timestep, label), network(x, timestep, label).roll(4, dims=3))


def test_dit__without_label_is_the_null_label(network):
    x, timestep, label = _inputs(4)
    null = torch.full_like(label, NULL_LABEL)
    assert torch.equal(network(x, timestep), network(x, timestep, null))
    assert not torch.allclose(network(x, timestep), network(x, timestep, null + 3), atol=1e-3)


def test_dit__reads_the_label_of_each_sample(network):
    x, timestep, _ = _inputs(2)
    x, timestep = x[:1].expand(11, -1, -1, -1), timestep[1:].expand(11)
    outputs = network(x, timestep, torch.arange(-1, 10)).flatten(1)
    assert torch.cdist(outputs, outputs).fill_diagonal_(9).min() > 1e-3


@pytest.mark.parametrize("label", [-2, 10])
def test_dit__refuses_labels_it_does_not_have(network, label):
    x, timestep, _ = _inputs(1)
    with pytest.raises(IndexError):
        network(x, timestep, torch.tensor([label]))


def test_dit__treats_every_sample_alone(network):
    x, timestep, label = _inputs(6)
    together = network(x, timestep, label)
    alone = torch.cat([network(x[i : i + 1], timestep[i : i + 1], label[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_dit__drops_nothing_in_eval_mode(network):
    x, timestep, label = _inputs(4)
    assert torch.equal(network(x, timestep, label), network(x, timestep, label))


def test_dit__depends_on_the_timestep(network):
    x, timestep, label = _inputs(2)
    assert not torch.allclose(network(x, timestep, label), network(x, timestep + 500, label), atol=1e-3)


def test_attention__is_softmax_of_scaled_scores_written_out():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        attention = SelfAttention(DiTConfig(width=64, heads=4)).requires_grad_(False)
        x = torch.randn(2, 16, 64)
    mixed = []
    for head in torch.arange(64).split(16):
        q, k, v = (part(x)[:, :, head] for part in (attention.query, attention.key, attention.value))
        mixed.append(torch.softmax(q @ k.transpose(1, 2) / 4.0, dim=-1) @ v)
    torch.testing.assert_close(attention(x), attention.output(torch.cat(mixed, dim=2)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"patch_size": 3}, {"patch_size": 0}, {"heads": 5}, {"heads": 0}, {"width": 90, "heads": 5},
        {"condition_width": 47}, {"classes": 0}, {"depth": 0}, {"dropout": 1.0}, {"label_dropout": -0.1},
    ],
)  # fmt: skip
def test_dit_config__rejects_sizes_that_do_not_fit(wrong):
    with pytest.raises(BadInput):
        DiTConfig(**wrong)


def test_build__refuses_sizes_of_no_known_network():
    with pytest.raises(BadInput, match="one of simulator"):
        build({"width": 3})
