"""One instrumented forward pass: module stack, interception and audit together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from simulator.instrument.audit import Audit
from simulator.instrument.interception import Handler, Interceptor
from simulator.instrument.sites import ModuleStack


@torch.no_grad()
def forward(module: nn.Module, handler: Handler, x: Tensor, timestep: Tensor) -> Tensor:
    """Run ``module(x, timestep)`` with every contraction handled by ``handler``.

    Raises:
        UncoveredContraction: a contraction ran outside every site.
    """
    stack = ModuleStack()
    with stack.watching(module), Audit(stack), Interceptor(handler, stack):
        return module(x, timestep)
