"""What a site gets on a named machine, whose own specs say what its operands, weights and outputs may be."""

from __future__ import annotations

from dataclasses import replace

from samplers.errors import BadInput
from simulator.arithmetic.granularity import PerAxis, PerTensor
from simulator.arithmetic.quantizer import QuantSpec
from simulator.instrument.contractions import PROBABILITY
from simulator.instrument.scheme.settings import ActivationRange, Settings, WeightGranularity
from simulator.instrument.survey import SiteFacts
from simulator.instrument.treatment import Operand
from simulator.targets.description import BiasKind, Kernel, Parameters, Target

_GRANULARITIES = {WeightGranularity.CHANNEL: PerAxis((0,)), WeightGranularity.TENSOR: PerTensor()}


def on_target(
    settings: Settings, facts: SiteFacts, target: Target
) -> tuple[dict[str, Operand], QuantSpec | None, QuantSpec | None]:
    """Operands by role, weight and output.

    Raises:
        BadInput: something that the target does not have, with the site's name.
    """
    kernel = _kernel(facts, target)
    for role in facts.roles:
        if getattr(settings, f"{role}_bits", None) is not None:
            raise BadInput(
                f"{target} has one width for all operands", got=f"{role}_bits at {facts.key}", fix="set activation_bits"
            )
    weight = None
    if facts.weight_shape is not None:
        weight = _weight(settings, facts, target)
    operands = {role: _operand(settings, facts, target, role, weight) for role in facts.roles}
    return operands, weight, _output(settings, facts, target, kernel)


def _kernel(facts: SiteFacts, target: Target) -> Kernel:
    kernel = target.kernels[_kind(facts)]
    if kernel is None or facts.key.operation.startswith("conv_transpose"):
        raise BadInput(
            f"{target} must have a kernel for every site",
            got=f"{facts.key}, a {_kind(facts)}",
            fix="keep the site in float by a rule (keep_float = true), or choose another target",
        )
    if target.parameters is Parameters.NONE:
        raise BadInput(
            f"a scheme's activations are integers, those of {target} are floats", got=str(facts.key), fix="use w4a8"
        )
    return kernel


def _kind(facts: SiteFacts) -> str:
    if facts.weight_shape is None:
        return "matmul"
    return "conv" if facts.key.operation.startswith("conv") else "linear"


def _operand(settings: Settings, facts: SiteFacts, target: Target, role: str, weight: QuantSpec | None) -> Operand:
    specs = [spec for spec in target.activations if spec.format.bits == settings.activation_bits]
    if target.parameters is Parameters.DYNAMIC_BLOCKS:
        size = weight.granularity.group_size(1) if weight else None
        for spec in specs:
            if spec.granularity.group_size(1) == size:
                return Operand(spec, ActivationRange.ROW)
        raise _lacks(target, "activations", f"{settings.activation_bits} bits in blocks of {size}", facts)
    whole = [spec for spec in specs if spec.granularity == PerTensor()]
    rows = [spec for spec in specs if spec.granularity == PerAxis((0,))]
    if role == PROBABILITY:  # its range is known: static where the machine has such a scale
        if whole:
            return Operand(whole[0], ActivationRange.STATIC)
        if rows:
            return Operand(replace(rows[0], granularity=PerTensor()), ActivationRange.ROW)
    wanted = settings.activation_range
    assert wanted is not None
    if wanted is ActivationRange.ROW and rows:
        return Operand(replace(rows[0], granularity=PerTensor()), wanted)
    if wanted is not ActivationRange.ROW and whole:
        return Operand(whole[0], wanted)
    raise _lacks(target, "activations", f"{settings.activation_bits} bits with {wanted.value} ranges", facts)


def _weight(settings: Settings, facts: SiteFacts, target: Target) -> QuantSpec:
    """The target's spec of this width with most scales, or with the groups, scales and symmetry asked for."""
    specs = [spec for spec in target.weights if spec.format.bits == settings.weight_bits]
    if settings.group_size:
        specs = [spec for spec in specs if spec.granularity.group_size(1) == settings.group_size]
    if settings.weight_granularity is not None:
        specs = [spec for spec in specs if spec.granularity == _GRANULARITIES[settings.weight_granularity]]
    if settings.weight_symmetric is not None:
        specs = [spec for spec in specs if spec.symmetric is settings.weight_symmetric]
    specs.sort(key=lambda spec: spec.granularity == PerAxis((0,)), reverse=True)
    if not specs:
        groups = f" in groups of {settings.group_size}" if settings.group_size else ""
        granularity = settings.weight_granularity
        scales = "" if granularity is None else f", one scale per {granularity.value}"
        kinds = {None: "", True: ", symmetric", False: ", asymmetric"}
        wanted = f"{settings.weight_bits} bits{groups}{scales}{kinds[settings.weight_symmetric]}"
        raise _lacks(target, "weights", wanted, facts)
    return specs[0]


def _output(settings: Settings, facts: SiteFacts, target: Target, kernel: Kernel) -> QuantSpec | None:
    if not settings.output_bits:
        if kernel.epilogue is None:
            raise BadInput(
                f"{target} has no float output for a {_kind(facts)}",
                got=str(facts.key),
                fix=f"requantize outputs: o{target.outputs[0].bits}",
            )
        return None
    formats = [format for format in target.outputs if format.bits == settings.output_bits]
    if not formats or kernel.requantizer is None:
        raise BadInput(
            f"{target} must have the outputs asked for",
            got=f"{settings.output_bits} bits at {facts.key}",
            fix=f"it has {', '.join(map(str, target.outputs)) or 'float outputs only'}",
        )
    return QuantSpec(formats[0], symmetric=kernel.bias is BiasKind.CODES)


def _lacks(target: Target, field: str, got: str, facts: SiteFacts) -> BadInput:
    has = ", ".join(sorted({f"{spec.format} {spec.granularity}" for spec in getattr(target, field)}))
    return BadInput(f"{target} must have the {field} asked for", got=f"{got} at {facts.key}", fix=f"it has {has}")
