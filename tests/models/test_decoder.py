"""Claim: a decoder maps latents to pixels sample by sample in float32, and refuses what it cannot mean."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from samplers.errors import BadInput
from simulator.models.decoder import Decoder


def decoder(**changes) -> Decoder:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = nn.Sequential(nn.Conv2d(2, 7, 3, padding=1), nn.SiLU(), nn.Conv2d(7, 3, 3, padding=1))
    return Decoder(**{"module": module.eval(), "scale": 0.3, "shift": 0.7, "digest": "d"} | changes)


def latents(count: int = 5) -> torch.Tensor:
    return torch.randn(count, 2, 6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_decode__is_the_module_at_latents_over_scale_plus_shift():
    found, x = decoder(), latents()
    want = torch.cat([found.module(one[None].float() / 0.3 + 0.7) for one in x])
    assert torch.equal(found.decode(x), want)
    assert torch.equal(found.decode(x.float()), want)
    assert found.decode(x).dtype == torch.float32
    assert not found.decode(x).requires_grad


def test_decode__gives_a_sample_the_same_bits_in_any_batch_and_memory_format():
    found, x = decoder(), latents()
    whole = found.decode(x)
    for first in range(5):
        assert torch.equal(found.decode(x[first:])[0], whole[first])
    assert torch.equal(found.decode(x.to(memory_format=torch.channels_last)), whole)


def test_decode__sees_one_sample_at_a_time():
    found, seen = decoder(), []
    found.module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    found.decode(latents().to(memory_format=torch.channels_last))
    assert [len(z) for z in seen] == [1] * 5
    assert all(z.is_contiguous() for z in seen)  # float bits may depend on the layout


def test_decode__lets_nan_through():
    x = latents()
    x[1, 0, 0, 0] = float("nan")
    pixels = decoder().decode(x)
    assert pixels[1].isnan().any()
    assert not pixels[[0, 2, 3, 4]].isnan().any()


@pytest.mark.parametrize("wrong", [latents().half(), latents().long(), latents()[0], latents()[:0]])
def test_decode__refuses_other_ranks_dtypes_and_empty_batches(wrong):
    with pytest.raises(BadInput, match="latents must be"):
        decoder().decode(wrong)


@pytest.mark.parametrize(
    "changes",
    [{"scale": 0.0}, {"scale": -1.0}, {"scale": float("nan")}, {"scale": float("inf")}, {"shift": float("nan")}],
)
def test_decoder__refuses_a_scale_or_shift_that_is_none(changes):
    with pytest.raises(BadInput, match="finite"):
        decoder(**changes)
