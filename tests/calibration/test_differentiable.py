"""Claim: a differentiable pass hands each contraction to its handler, under the whole network's site names."""

from __future__ import annotations

import torch

from simulator.calibration.differentiable import differentiable

X, T = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 900])


def test_differentiable__gradients_reach_what_the_handler_uses(tiny_model, one_thread) -> None:
    gain = torch.ones((), requires_grad=True)
    output = differentiable(tiny_model.module, lambda site, c: c.float() * gain, lambda: tiny_model.module(X, T))
    torch.testing.assert_close(output.detach(), tiny_model.module(X, T), rtol=1e-4, atol=1e-5)  # fused attention
    output.square().sum().backward()
    step = 1e-3
    found = [
        differentiable(tiny_model.module, lambda site, c, g=g: c.float() * g, lambda: tiny_model.module(X, T))
        .double().square().sum()
        for g in (1 - step, 1 + step)
    ]  # fmt: skip
    assert torch.isclose(gain.grad, ((found[1] - found[0]) / (2 * step)).detach().float(), rtol=1e-2)


def test_differentiable__names_the_sites_of_a_part_as_in_the_whole(tiny_model) -> None:
    seen = []

    def handle(site, contraction):
        seen.append(str(site))
        return contraction.float()

    part = tiny_model.module.first
    differentiable(tiny_model.module, handle, lambda: part(X))
    assert seen == ["first:conv2d"]
