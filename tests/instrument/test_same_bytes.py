"""Claim: two tensors are the same only if their dtype, shape and every byte are, whatever their layouts."""

from __future__ import annotations

import pytest
import torch

from simulator.instrument.same_bytes import same_bytes

LAYOUTS = {
    "dense": lambda t: t,
    "transposed": lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),
    "channels last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "with gaps": lambda t: torch.cat([t, t], -1)[..., : t.shape[-1]],
}


@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("right", LAYOUTS)
def test_same_bytes__sees_every_element(left, right):
    plain = torch.arange(2.0 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    a = LAYOUTS[left](plain.clone())
    assert same_bytes(a, LAYOUTS[right](plain.clone()))
    for place in range(plain.numel()):
        changed = plain.clone()
        changed.view(-1)[place] += 1e-3 * (1 + place)
        assert not same_bytes(a, LAYOUTS[right](changed))


def test_same_bytes__reads_nothing_between_elements():
    a, b = torch.zeros(3, 4), torch.ones(3, 4)
    b[:, :2] = 0
    assert same_bytes(a[:, :2], b[:, :2])
    assert not same_bytes(a[:, :3], b[:, :3])


def test_same_bytes__knows_shape_dtype_and_special_values():
    zeros, nan = torch.zeros(2, 2), torch.full((2,), float("nan"))
    assert not same_bytes(zeros, zeros.reshape(4))
    assert not same_bytes(zeros, zeros.int())
    assert not same_bytes(zeros, -zeros)
    assert same_bytes(nan, nan.clone())
    assert same_bytes(torch.zeros(0, 3), torch.zeros(0, 3))
    assert same_bytes(torch.zeros(1).expand(5), torch.zeros(5))
