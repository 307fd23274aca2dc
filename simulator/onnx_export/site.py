"""What a deployed site is: operand formats, weight and bias codes, and the format of the codes that come out.

The only place that reads formats off a :class:`QuantizedModel`. Everything is static: a uint8 activation has a scale
and a zero point, a weight is int8 with one scale per output channel, a bias is int32 in units of the product of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from samplers.errors import BadInput
from simulator import targets
from simulator.arithmetic.operands import ScaledFormat
from simulator.arithmetic.quantizer import Quantized, parameters_from_range
from simulator.calibration.ranges import OUTPUT
from simulator.instrument.contractions import Contraction, ConvTranspose, MatMul
from simulator.instrument.emulation import array
from simulator.instrument.forward import forward
from simulator.instrument.plan import Plan
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import ActivationRange
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts
from simulator.instrument.weight_codes import weight_codes
from simulator.targets import OutputSpec

TARGET = targets.target("onnxruntime")
ACTIVATION, WEIGHT = TARGET.activations[0], TARGET.weights[1]
"""uint8 per tensor, and int8 per output channel."""


@dataclass(frozen=True)
class DeployedSite:
    """A contraction in integers, from the codes of its operands to the codes of its output.

    Attributes:
        key: its name.
        contraction: as one pass met it: its form, geometry and shapes, not its values.
        operands: format of each run-time operand, by role, in the contraction's order.
        output: scale, zero point and format of the codes that it gives.
        weight: int8 codes in torch's layout, a scale per output channel; None where both operands are computed.
        bias: int32 (outputs,) in units of input scale times weight scale, or None.
    """

    key: SiteKey
    contraction: Contraction
    operands: Mapping[str, ScaledFormat]
    output: OutputSpec
    weight: Quantized | None
    bias: np.ndarray | None


def require_byte_plan(plan: Plan) -> None:
    """Raise BadInput unless every site has the formats of ONNX Runtime's int8 operators, before any work."""
    for facts in plan.sites:
        treatment = plan.at(facts.key)
        weight = treatment.weight  # narrow codes are int8 codes too
        wide = weight and replace(weight, format=replace(weight.format, narrow=False))
        operands = [operand.spec for operand in treatment.operands.values()]
        static = all(operand.range is ActivationRange.STATIC for operand in treatment.operands.values())
        exact = (
            not treatment.limited
            and treatment.target in (None, TARGET)
            and not treatment.logarithmic
            and not treatment.grouped
        )
        if not operands or not (static and exact and wide in (None, WEIGHT)) or set(operands) != {ACTIVATION}:
            raise BadInput(
                "an ONNX export has int8 weights with a scale per output channel, static uint8 activations, exact sums",
                got=f"{treatment.describe()} at {facts.key}",
                fix="export w8a8",
            )


def deployed_sites(quantized: QuantizedModel) -> dict[SiteKey, DeployedSite]:
    """Every site of a network in execution order, read off passes over two constant inputs.

    Raises:
        BadInput: another scheme than 8 bits, a transposed convolution, an output without a calibrated range, a weight
            or bias that differs between the two passes, a bias beyond int32.
    """
    require_byte_plan(quantized.plan)
    here, elsewhere = _contractions(quantized, 0.0, 0), _contractions(quantized, 0.5, 300)
    for key, contraction in here.items():
        if isinstance(contraction, MatMul):
            continue
        if not all(map(_same, _constants(contraction), _constants(elsewhere[key]))):
            raise BadInput(
                "an exported weight or bias must not depend on the input", got=f"another one for another x at {key}",
                fix="keep the module in float with allow_float",
            )  # fmt: skip
    return {facts.key: _site(quantized, facts, here[facts.key]) for facts in quantized.sites}


def _contractions(quantized: QuantizedModel, x: float, timestep: int) -> dict[SiteKey, Contraction]:
    """Every contraction of a pass over two samples that are ``x`` everywhere."""
    model, found = quantized.model, dict[SiteKey, Contraction]()

    def note(key: SiteKey, contraction: Contraction) -> Tensor:
        found[key] = contraction
        return contraction.float()

    samples, times = torch.full((2, *model.sample_shape), x), torch.full((2,), timestep)
    forward(model.module, note, samples, times, call=model.call, audit=False, allow_float=quantized.allow_float)
    return found


def _constants(contraction: Contraction) -> tuple[Tensor | None, ...]:
    assert not isinstance(contraction, MatMul)
    return contraction.weight, contraction.bias


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other if one is None or other is None else torch.equal(one, other)


def _site(quantized: QuantizedModel, facts: SiteFacts, contraction: Contraction) -> DeployedSite:
    key = facts.key
    if isinstance(contraction, ConvTranspose):
        raise BadInput(
            f"{TARGET} has no integer transposed convolution", got=str(key), fix="keep it in float with allow_float"
        )
    formats = quantized.formats(key)
    operands = {role: formats[role] for role in contraction.activations()}
    scale, zero_point = parameters_from_range(*quantized.ranges.of(key, OUTPUT), ACTIVATION)
    output = OutputSpec(np.float32(scale), int(zero_point), ACTIVATION.format)
    if isinstance(contraction, MatMul):
        return DeployedSite(key, contraction, operands, output, None, None)
    treatment = quantized.treatment(key)
    assert treatment.weight is not None
    found = weight_codes(contraction, array(contraction.weight), treatment.weight, treatment.weight_bounds)
    weight = Quantized(found.codes, found.scale, found.zero_point, WEIGHT)
    bias = None
    if contraction.bias is not None:
        bias = targets.quantize_bias(array(contraction.bias), operands["input"].scale, weight.scale.reshape(-1))
    return DeployedSite(key, contraction, operands, output, weight, bias)
