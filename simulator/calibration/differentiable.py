"""Forward passes that gradients flow through: what reconstruction and training replace a contraction by.

The integer engine has no gradients. A handler that computes rounded operands in torch float, with a gradient of its own
for the rounding, stands in for it while something is optimised; what comes out is quantized and judged by the engine.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from simulator.instrument.interception import Handler, Interceptor
from simulator.instrument.sites import watching


def differentiable(module: nn.Module, handler: Handler, run: Callable[[], Tensor]) -> Tensor:
    """What ``run()`` returns, every contraction inside it handled by ``handler``, gradients kept.

    Args:
        module: the network; ``run`` calls it or any of its modules, whose sites are named as in the whole network.
        handler: called with each site and contraction; for a gradient it must compute by torch operations.
        run: the forward pass. Nothing is audited: a site must have been seen by an audited pass before.

    Raises:
        BadInput: operands that are not float32 on the CPU, or a call that is no contraction of this project's.
    """
    with watching(module) as stack, torch.enable_grad():
        stack.restart()
        with Interceptor(handler, stack):
            return run()
