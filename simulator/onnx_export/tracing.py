"""The network as an ONNX graph whose contractions are placeholders, each with its site's number.

torch's TorchScript exporter turns what lies between the sites into ONNX operators. It runs under the interceptor, so a
placeholder stands exactly where the simulator has a site, under whatever name torch calls the contraction. That
exporter needs no package besides ``onnx``; the newer one needs ``onnxscript``, and traces by other means.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from samplers.errors import BadInput
from simulator.instrument.contractions import Contraction
from simulator.instrument.forward import forward
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.sites import SiteKey

DOMAIN, OPERATOR, NUMBER = "qnoise", "Site", "number"
OPSET = 20
"""The newest that the exporter writes; its Gelu and LayerNormalization are single operators."""


class _Placeholder(torch.autograd.Function):
    """``found`` in torch; in the graph, one node that reads the operands."""

    @staticmethod
    def forward(ctx: Any, found: Tensor, number: int, *operands: Tensor) -> Tensor:
        """What torch computes."""
        return found.clone()

    @staticmethod
    def symbolic(g: Any, found: Any, number: int, *operands: Any) -> Any:
        """What the graph holds instead: ``found`` is read by nothing, so the exporter drops how it came about."""
        return g.op(f"{DOMAIN}::{OPERATOR}", *operands, **{f"{NUMBER}_i": number}).setType(found.type())


class _Traced(nn.Module):
    """The network, every site of it replaced by a placeholder."""

    def __init__(self, quantized: QuantizedModel, numbers: dict[SiteKey, int]) -> None:
        super().__init__()
        self.network, self._quantized, self._numbers = quantized.model.module, quantized, numbers

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        """Run under the interceptor."""
        model = self._quantized.model

        def replace(site: SiteKey, contraction: Contraction) -> Tensor:
            operands = contraction.activations().values()
            return _Placeholder.apply(contraction.float(), self._numbers[site], *operands)

        return forward(
            model.module, replace, x, timestep, call=model.call, audit=False, allow_float=self._quantized.allow_float
        )


def trace(quantized: QuantizedModel, sites: Sequence[SiteKey]) -> bytes:
    """A serialized ONNX model from ``x`` (n, ...) float32 and ``timestep`` (n,) int64 to ``output``.

    Each contraction is a node ``qnoise.Site`` whose attribute ``number`` is the place of its site in ``sites``; its
    inputs are the run-time operands, a matmul's second one as (..., columns, depth).

    Raises:
        BadInput: a function that the exporter has no ONNX operator for.
    """
    model = quantized.model
    example = (torch.zeros(2, *model.sample_shape), torch.zeros(2, dtype=torch.long))
    file = io.BytesIO()
    module = _Traced(quantized, {site: number for number, site in enumerate(sites)}).eval()
    with torch.no_grad(), warnings.catch_warnings():
        # it is deprecated for new users, and warns of sizes that become constants: the survey has seen them constant
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)
        try:
            torch.onnx.export(
                module, example, file, dynamo=False,  # type: ignore[arg-type]  # this exporter takes a buffer
                opset_version=OPSET, custom_opsets={DOMAIN: 1},
                input_names=["x", "timestep"], output_names=["output"],
                dynamic_axes={"x": {0: "n"}, "timestep": {0: "n"}, "output": {0: "n"}},
            )  # fmt: skip
        except RuntimeError as error:  # of the exporter, or of the network under it
            raise BadInput(
                "torch's TorchScript exporter must know every function of the network",
                got=str(error).splitlines()[0],
                fix="write the network with functions that have ONNX operators",
            ) from error
    return file.getvalue()
