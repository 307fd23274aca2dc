"""What full precision makes of an error of its input: a Jacobian product, or the exact difference."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from samplers.errors import BadInput
from simulator.instrument.forward import Call, plain_call
from simulator.models.registry import Model

RESPONSES = ("tangent", "finite")

Response = Callable[[Tensor, Tensor, Tensor, Tensor, Call | None], Tensor]
"""Called with (x, error of x, timestep, output at x, call): the output's error, float64."""


def response_of(name: str, model: Model) -> Response:
    """The response called ``name``, one of ``RESPONSES``."""
    return _finite(model.module) if name == "finite" else _tangent(model.module)


def _finite(module: nn.Module) -> Response:
    def respond(x: Tensor, error: Tensor, timestep: Tensor, output: Tensor, call: Call | None) -> Tensor:
        if not error.any():
            return torch.zeros_like(output)
        return (call or plain_call)(module, (x + error).float(), timestep).double() - output

    return respond


def _tangent(module: nn.Module) -> Response:
    """Forward differentiation; torch has it for contiguous memory and for attention that is not fused."""
    contiguous = copy.deepcopy(module).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stub lacks it

    def respond(x: Tensor, error: Tensor, timestep: Tensor, output: Tensor, call: Call | None) -> Tensor:
        def network(seen: Tensor) -> Tensor:
            return (call or plain_call)(contiguous, seen, timestep)

        try:
            with sdpa_kernel(SDPBackend.MATH):
                return torch.func.jvp(network, (x.float(),), (error.float(),))[1].double()
        except RuntimeError as refused:
            raise BadInput(
                "a Jacobian product needs operations that torch can differentiate forward",
                got=str(refused).splitlines()[0],
                fix='use response="finite"',
            ) from None

    return respond
