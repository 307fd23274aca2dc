"""The deployed network in the simulator: codes at every site, float32 in torch between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from simulator.arithmetic.quantizer import Quantized, dequantize
from simulator.instrument.contractions import Contraction
from simulator.instrument.emulation import array
from simulator.instrument.forward import forward
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.sites import SiteKey
from simulator.onnx_export.codes import operand_codes, site_codes
from simulator.onnx_export.site import ACTIVATION, DeployedSite

CodesWatcher = Callable[[SiteKey, Contraction, tuple[np.ndarray, ...], np.ndarray], None]
"""Called at each site with its float operands, their codes, and the codes of its output."""


def run_deployed(
    quantized: QuantizedModel,
    sites: Mapping[SiteKey, DeployedSite],
    x: Tensor,
    timestep: Tensor,
    watch: CodesWatcher | None = None,
) -> Tensor:
    """The output for float32 ``x``: each site quantizes its operands, contracts codes to codes, and dequantizes."""

    def handle(key: SiteKey, contraction: Contraction) -> Tensor:
        site = sites[key]
        formats, tensors = site.operands.values(), contraction.activations().values()
        operands = tuple(operand_codes(how, array(tensor)) for how, tensor in zip(formats, tensors, strict=True))
        output = site_codes(site, *operands)
        if watch is not None:
            watch(key, contraction, operands, output)
        shape = (1,) * output.ndim
        scale, zero = np.full(shape, site.output.scale, np.float32), np.full(shape, site.output.zero_point, np.int32)
        return torch.from_numpy(dequantize(Quantized(output, scale, zero, ACTIVATION)))

    model = quantized.model
    return forward(model.module, handle, x, timestep, call=model.call, audit=False, allow_float=quantized.allow_float)
