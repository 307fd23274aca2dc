"""Register widths that a network's codes prove, site by site, before any sample is seen."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from simulator.arithmetic.certificate import Certificate, certify
from simulator.instrument import emulation
from simulator.instrument.contractions import Contraction, MatMul, Weighted
from simulator.instrument.forward import forward
from simulator.instrument.machines.requantization import bias_for
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.sites import SiteKey
from simulator.instrument.treatment import Treatment
from simulator.targets.description import BiasKind, bias_of


def certificates(network: QuantizedModel, *, step: int | None = None) -> dict[SiteKey, Certificate]:
    """The certificate of every site of the engine's own integers, from its weight codes and operand formats alone.

    ``bound = max_n sum_k |w_nk - zw_n| max |x - zx|`` over one group of the contraction, plus the largest bias where
    the register starts at one (a requantized output without groups along k). For two run-time operands it is
    ``depth max |x - zx| max |y - zy|``. The maximum of an operand without a static range is taken over every zero
    point of its format. Zero points are subtracted inside (``ZeroPoint.INSIDE``).

    Args:
        network: the quantized network; nothing of it runs in integers here.
        step: the sampler's loop index, for schemes and ranges that depend on it.

    Returns:
        A certificate by site, in execution order; sites in float, on targets, in block or log-sqrt2 formats have
        none.

    Raises:
        BadInput: codes wider than 8 bits; no step given where one is needed.
    """
    found: dict[SiteKey, Certificate] = {}

    def handle(site: SiteKey, contraction: Contraction) -> Tensor:
        treatment = network.treatment(site, step)
        if not (treatment.in_float or treatment.block or treatment.target or treatment.logarithmic):
            found[site] = _certificate(network, site, contraction, treatment, step)
        return contraction.float()

    model = network.model
    x, timestep = torch.zeros(2, *model.sample_shape), torch.zeros(2, dtype=torch.long)
    forward(model.module, handle, x, timestep, call=model.call, allow_float=network.allow_float)
    return found


def _certificate(
    network: QuantizedModel, site: SiteKey, contraction: Contraction, treatment: Treatment, step: int | None
) -> Certificate:
    formats = network.formats(site, step)
    largest = [
        formats[role].largest if role in formats else operand.spec.format.qmax - operand.spec.format.qmin
        for role, operand in treatment.operands.items()
    ]
    if isinstance(contraction, MatMul):
        left, right = largest
        return certify(contraction.left.shape[-1] * right, left)
    assert treatment.weight is not None
    weight = emulation.prepared(contraction, contraction.weight.detach(), treatment.weight, treatment.weight_bounds)
    bound = weight.certificate(largest[0]).bound
    held = treatment.output is not None and len(weight.groups) == 1 and bias_of(treatment.requantizer) is BiasKind.INT32
    if held and "input" in formats:
        bound += _largest_bias(contraction, treatment, formats["input"].scale, weight.scale[0])
    return Certificate(bound)


def _largest_bias(contraction: Weighted, treatment: Treatment, x_scale: np.float32, w_scale: np.ndarray) -> int:
    bias = bias_for(treatment.requantizer, contraction.bias, x_scale, w_scale)
    return 0 if bias is None else int(np.abs(bias.astype(np.int64)).max(initial=0))
