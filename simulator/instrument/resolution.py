"""From a site's settings to its treatment, or the error that says why there is none."""

from __future__ import annotations

from collections.abc import Mapping

from samplers.errors import BadInput
from simulator.arithmetic.block_formats import BlockFormat
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import Granularity, PerAxis, PerGroup
from simulator.arithmetic.quantizer import QuantSpec
from simulator.arithmetic.requantize import REQUANTIZERS
from simulator.instrument.contractions import PROBABILITY
from simulator.instrument.scheme.settings import BLOCKS, ActivationRange, Settings
from simulator.instrument.survey import SiteFacts
from simulator.instrument.treatment import Operand, Treatment
from simulator.targets.description import Parameters, Target


def resolved(settings: Settings, facts: SiteFacts, target: Target | None) -> Treatment:
    """The treatment that complete settings give a site.

    Raises:
        BadInput: something that the engine or the target does not have, with the site's name.
    """
    if settings.keep_float:
        return _treatment(settings, {}, None, None, in_float=True)
    return _on_engine(settings, facts) if target is None else _on_target(settings, facts, target)


def _on_engine(settings: Settings, facts: SiteFacts) -> Treatment:
    block = BLOCKS.get(settings.block or "")
    if block is not None:
        if facts.key.operation.startswith("conv_transpose"):
            raise BadInput(
                "transposed convolutions have no block format",
                got=f"{block} at {facts.key}",
                fix='give the site block = "integers" by a rule',
            )
        return _treatment(settings, {}, None, None, block=block)
    assert settings.rounding is not None
    operands = {role: _operand(settings, role) for role in facts.roles}
    weight = None
    if facts.weight_shape is not None:
        granularity: Granularity = PerGroup(1, settings.group_size, (0,)) if settings.group_size else PerAxis((0,))
        assert settings.weight_bits is not None
        weight = QuantSpec(
            IntFormat(settings.weight_bits, signed=True, narrow=True), granularity, symmetric=True,
            rounding=settings.rounding,
        )  # fmt: skip
    output = None
    if settings.output_bits:
        output = QuantSpec(IntFormat(settings.output_bits, signed=False), rounding=settings.rounding)
        _require_requantizer(settings, facts, operands)
    return _treatment(settings, operands, weight, output)


def _operand(settings: Settings, role: str) -> Operand:
    bits = getattr(settings, f"{role}_bits", None) or settings.activation_bits
    assert bits is not None
    assert settings.activation_range is not None
    assert settings.rounding is not None
    if role == PROBABILITY:  # its range is known
        return Operand(QuantSpec(IntFormat(bits, signed=False), rounding=settings.rounding), ActivationRange.STATIC)
    if settings.activation_range is ActivationRange.ROW:
        spec = QuantSpec(IntFormat(bits, signed=True, narrow=True), symmetric=True, rounding=settings.rounding)
    else:
        spec = QuantSpec(IntFormat(bits, signed=False), rounding=settings.rounding)
    return Operand(spec, settings.activation_range)


def _require_requantizer(settings: Settings, facts: SiteFacts, operands: Mapping[str, Operand]) -> None:
    if facts.weight_shape is not None and 0 < (settings.group_size or 0) < facts.weight_shape[1]:
        return  # the group register's float is quantized
    if any(operand.range is ActivationRange.ROW for operand in operands.values()):
        raise BadInput(
            "a requantizer takes one activation scale",
            got=f"scales per row at {facts.key}",
            fix="use -dyn, or no output",
        )
    widest: int = settings.requantizer.LARGEST_BITS  # type: ignore[union-attr]
    assert settings.output_bits is not None
    if settings.output_bits > widest:
        name = next(name for name, kind in REQUANTIZERS.items() if kind is settings.requantizer)
        raise BadInput(
            f"the requantizer {name} has outputs of at most {widest} bits",
            got=f"{settings.output_bits} at {facts.key}",
            fix="choose another requantizer",
        )


def _on_target(settings: Settings, facts: SiteFacts, target: Target) -> Treatment:
    kind = "matmul" if facts.weight_shape is None else "conv" if facts.key.operation.startswith("conv") else "linear"
    kernel = target.kernels[kind]
    if kernel is None or facts.key.operation.startswith("conv_transpose"):
        raise BadInput(
            f"{target} must have a kernel for every site",
            got=f"{facts.key}, a {kind}",
            fix="keep the site in float by a rule (keep_float = true), or choose another target",
        )
    if target.parameters is Parameters.NONE:
        raise BadInput(
            f"a scheme's activations are integers, those of {target} are floats", got=str(facts.key), fix="use w4a8"
        )
    activation = _matching(target, "activations", settings.activation_bits, None, facts)
    range_ = settings.activation_range
    if target.parameters is Parameters.DYNAMIC_BLOCKS:
        range_ = ActivationRange.ROW
    elif range_ is ActivationRange.ROW and activation.granularity != PerAxis((0,)):
        raise BadInput(f"{target} has one activation scale per tensor", got=f"per row at {facts.key}", fix="use -dyn")
    assert range_ is not None
    operands = {
        role: Operand(activation, ActivationRange.STATIC if role == PROBABILITY else range_) for role in facts.roles
    }
    weight = None
    if facts.weight_shape is not None:
        weight = _matching(target, "weights", settings.weight_bits, settings.group_size, facts)
    output = None
    if settings.output_bits:
        formats = [format for format in target.outputs if format.bits == settings.output_bits]
        if not formats or kernel.requantizer is None:
            raise BadInput(
                f"{target} must have the outputs asked for",
                got=f"{settings.output_bits} bits at {facts.key}",
                fix=f"it has {', '.join(map(str, target.outputs)) or 'float outputs only'}",
            )
        output = QuantSpec(formats[0])
    elif kernel.epilogue is None:
        raise BadInput(
            f"{target} has no float output for a {kind}",
            got=str(facts.key),
            fix=f"requantize outputs: o{target.outputs[0].bits}",
        )
    return _treatment(settings, operands, weight, output, target=target)


def _matching(target: Target, field: str, bits: int | None, group_size: int | None, facts: SiteFacts) -> QuantSpec:
    """The target's spec of this width; of weights the one with most scales, or with the group size asked for."""
    specs: list[QuantSpec] = [spec for spec in getattr(target, field) if spec.format.bits == bits]
    if field == "weights":
        if group_size:
            specs = [spec for spec in specs if spec.granularity.group_size(1) == group_size]
        specs.sort(key=lambda spec: spec.granularity == PerAxis((0,)), reverse=True)
    if not specs:
        has = ", ".join(sorted({f"{spec.format} {spec.granularity}" for spec in getattr(target, field)}))
        groups = f" in groups of {group_size}" if group_size else ""
        raise BadInput(
            f"{target} must have the {field} asked for", got=f"{bits} bits{groups} at {facts.key}", fix=f"it has {has}"
        )
    return specs[0]


def _treatment(
    settings: Settings, operands: Mapping[str, Operand], weight: QuantSpec | None, output: QuantSpec | None,
    *, block: BlockFormat | None = None, target: Target | None = None, in_float: bool = False,
) -> Treatment:  # fmt: skip
    assert settings.accumulator is not None
    assert settings.group_register is not None
    assert settings.requantizer is not None
    return Treatment(
        operands, weight, output, settings.accumulator, settings.group_register, settings.requantizer, block, target,
        in_float,
    )  # fmt: skip
