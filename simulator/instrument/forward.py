"""One instrumented forward pass: module stack, interception and audit together."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from simulator.instrument.audit import Audit
from simulator.instrument.interception import Handler, Interceptor
from simulator.instrument.sites import watching


@torch.no_grad()
def forward(module: nn.Module, handler: Handler, x: Tensor, timestep: Tensor, *, audit: bool = True) -> Tensor:
    """Run ``module(x, timestep)`` with every contraction handled by ``handler``.

    Args:
        module: called with x and timestep.
        handler: what happens at each site.
        x: the network's first argument.
        timestep: its second.
        audit: stop at contractions outside sites. Without it the caller must know that an audited pass of the same
            module on the same timestep ran the same sites.

    Raises:
        UncoveredContraction: a contraction ran outside every site.
    """
    with watching(module) as stack:
        stack.restart()
        with Audit(stack) if audit else nullcontext(), Interceptor(handler, stack):
            return module(x, timestep)
