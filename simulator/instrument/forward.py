"""One instrumented forward pass: module stack, interception and audit together."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from simulator.instrument.allowance import Allowance, Note, UncoveredContraction
from simulator.instrument.audit import Audit
from simulator.instrument.interception import Allowed, Handler, Interceptor
from simulator.instrument.sites import watching
from simulator.instrument.worker_threads import hearing_of_threads

_HIGHER_ORDER = re.compile(r"no rule registered for HigherOrderOperator (\w+)")
"""How torch refuses operators that are graphs of their own (flex_attention, cond) under a dispatch mode."""

Call = Callable[..., Tensor]
"""Adapter of a network that is not called as ``module(x, timestep)``: called with (module, x, timestep) and perhaps
conditions by keyword, it adds what else the network takes and returns its output as one tensor."""


def plain_call(module: nn.Module, x: Tensor, timestep: Tensor, **conditions: Tensor) -> Tensor:
    """``module(x, timestep, **conditions)``."""
    return module(x, timestep, **conditions)


@torch.no_grad()
def forward(
    module: nn.Module,
    handler: Handler,
    x: Tensor,
    timestep: Tensor,
    *,
    call: Call | None = None,
    audit: bool = True,
    allow_float: tuple[str, ...] = (),
    allowed: Allowed | None = None,
    note: Note | None = None,
) -> Tensor:
    """Run ``module(x, timestep)`` with every contraction handled by ``handler``.

    Args:
        module: called with x and timestep.
        handler: what happens at each site.
        x: the network's first argument.
        timestep: its second.
        call: calls a module that takes other arguments.
        audit: stop at contractions outside sites. Without it the caller must know that an audited pass of the same
            module on the same timestep ran the same sites.
        allow_float: patterns of sites and modules that may run in float (``Allowance``); they do not reach the handler.
        allowed: hears of each site that ran in float so.
        note: hears of each operation outside sites that was let through so.

    Raises:
        UncoveredContraction: a contraction ran outside every site, or something ran that cannot be seen into.
    """
    allowance = Allowance(allow_float, note)
    with watching(module) as stack:
        stack.restart(lambda path: allowance.let_through("TorchScript graph", path, opaque=True))

        def hear(function: str) -> None:
            allowance.let_through(function, stack.path, opaque=True)

        with (
            hearing_of_threads(hear) if audit else nullcontext(),
            Audit(stack, allowance) if audit else nullcontext(),
            Interceptor(handler, stack, allowance, allowed),
        ):
            try:
                output = (call or plain_call)(module, x, timestep)
            except Exception as error:
                if isinstance(error, NotImplementedError) and (named := _HIGHER_ORDER.search(str(error))):
                    raise UncoveredContraction(f"higher_order::{named[1]}", "", opaque=True) from error
                if allowance.refused is None or error is allowance.refused:
                    raise
                raise allowance.refused from error
        if allowance.refused is not None:  # the network caught it, and went another way
            raise allowance.refused
        return output
