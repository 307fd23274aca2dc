"""From a site's settings to its treatment, or the error that says why there is none."""

from __future__ import annotations

from collections.abc import Mapping

from samplers.errors import BadInput
from simulator.arithmetic import log_sqrt2
from simulator.arithmetic.accumulator import Accumulator
from simulator.arithmetic.block_formats import BlockFormat
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import Granularity, PerAxis, PerGroup, PerTensor
from simulator.arithmetic.pair_accumulator import PairAccumulator
from simulator.arithmetic.quantizer import QuantSpec
from simulator.arithmetic.requantize import REQUANTIZERS
from simulator.arithmetic.rounding import Rounding
from simulator.instrument.contractions import PROBABILITY
from simulator.instrument.scheme.settings import (
    BLOCKS,
    DEFAULTS,
    ActivationRange,
    ProbabilityFormat,
    Settings,
    WeightGranularity,
)
from simulator.instrument.survey import SiteFacts
from simulator.instrument.target_resolution import on_target
from simulator.instrument.treatment import Operand, Treatment
from simulator.targets.description import Target


def resolved(settings: Settings, facts: SiteFacts, target: Target | None) -> Treatment:
    """The treatment that complete settings give a site.

    Raises:
        BadInput: something that the engine or the target does not have, with the site's name.
    """
    _require_logarithmic(settings, facts, target)
    _require_static_groups(settings, facts, target)
    if settings.keep_float:
        return _treatment(settings, {}, None, None, in_float=True)
    return _on_engine(settings, facts) if target is None else _on_target(settings, facts, target)


def _on_target(settings: Settings, facts: SiteFacts, target: Target) -> Treatment:
    operands, weight, output = on_target(settings, facts, target)
    return _treatment(settings, operands, weight, output, target=target)


def _on_engine(settings: Settings, facts: SiteFacts) -> Treatment:
    block = BLOCKS.get(settings.block or "")
    if block is not None:
        _require_plain(settings, facts)
        if facts.key.operation.startswith("conv_transpose"):
            raise BadInput(
                "transposed convolutions have no block format",
                got=f"{block} at {facts.key}",
                fix='give the site block = "integers" by a rule',
            )
        return _treatment(settings, {}, None, None, block=block)
    assert settings.rounding is not None
    operands = {role: _operand(settings, role) for role in facts.roles}
    weight = None if facts.weight_shape is None else _weight(settings, facts)
    output = None
    if isinstance(settings.accumulator, PairAccumulator):
        _require_pairs(facts, operands, weight)
    if settings.output_bits:
        output = QuantSpec(IntFormat(settings.output_bits, signed=False), rounding=settings.rounding)
        _require_requantizer(settings, facts, operands)
    return _treatment(settings, operands, weight, output)


def _weight(settings: Settings, facts: SiteFacts) -> QuantSpec:
    assert settings.weight_bits is not None
    assert settings.rounding is not None
    granularity: Granularity = PerAxis((0,))
    if settings.weight_granularity is WeightGranularity.TENSOR:
        if settings.group_size:
            raise BadInput(
                "a weight has one scale per tensor or groups of input channels, not both",
                got=f"group_size = {settings.group_size} at {facts.key}",
                fix="set group_size = 0, or drop weight_granularity",
            )
        granularity = PerTensor()
    elif settings.group_size:
        granularity = PerGroup(1, settings.group_size, (0,))
    symmetric = settings.weight_symmetric is not False
    format = IntFormat(settings.weight_bits, signed=symmetric, narrow=symmetric)
    return QuantSpec(format, granularity, symmetric=symmetric, rounding=settings.rounding)


def _operand(settings: Settings, role: str) -> Operand:
    bits = getattr(settings, f"{role}_bits", None) or settings.activation_bits
    assert bits is not None
    assert settings.activation_range is not None
    assert settings.rounding is not None
    if role == PROBABILITY:  # its range is known
        assert settings.probability_format is not None
        spec = QuantSpec(IntFormat(bits, signed=False), rounding=settings.rounding)
        return Operand(spec, ActivationRange.STATIC, form=settings.probability_format)
    if settings.activation_range is ActivationRange.ROW:
        spec = QuantSpec(IntFormat(bits, signed=True, narrow=True), symmetric=True, rounding=settings.rounding)
    else:
        spec = QuantSpec(IntFormat(bits, signed=False), rounding=settings.rounding)
    assert settings.activation_groups is not None
    return Operand(spec, settings.activation_range, settings.activation_groups)


def _require_static_groups(settings: Settings, facts: SiteFacts, target: Target | None) -> None:
    """Groups of channels have calibrated scales, and partial sums that no target has."""
    if settings.keep_float or settings.activation_groups == 1:
        return
    static = settings.activation_range is ActivationRange.STATIC
    if target is not None or settings.block in BLOCKS or not static:
        got = f"on {target}" if target else f"block = {settings.block!r}" if static else settings.activation_range
        raise BadInput(
            "groups of channels need static ranges of integers, on no target",
            got=f"{got} at {facts.key}",
            fix="give the site activation_groups = 1 by a rule",
        )


def _require_logarithmic(settings: Settings, facts: SiteFacts, target: Target | None) -> None:
    """Log-sqrt2 codes are multiplied by shifting, exactly, and rounded to nearest."""
    if (
        settings.keep_float
        or PROBABILITY not in facts.roles
        or settings.probability_format is ProbabilityFormat.UNIFORM
    ):
        return
    assert settings.probability_format is not None
    bits = settings.probability_bits or settings.activation_bits or 0
    wrong = {
        f"on {target}": target is not None,
        f"block = {settings.block!r}": settings.block in BLOCKS,
        f"{bits} bits": bits > log_sqrt2.LARGEST_BITS,
        "a limited accumulator": settings.accumulator != Accumulator(),
        f"rounding {settings.rounding}": settings.rounding in (Rounding.TOWARD_ZERO, Rounding.FLOOR, Rounding.CEIL),
    }
    for got in (text for text, is_wrong in wrong.items() if is_wrong):
        raise BadInput(
            f"{settings.probability_format.value} codes have 2 to {log_sqrt2.LARGEST_BITS} bits, exact sums and "
            "rounding to nearest, and no target or block format has them",
            got=f"{got} at {facts.key}",
            fix='give @pv other settings, or probability_format = "uniform", by a rule',
        )


def _require_plain(settings: Settings, facts: SiteFacts) -> None:
    """A block format states the rest itself."""
    for name in ("output_bits", "accumulator", "group_register", "rounding"):
        if getattr(settings, name) != getattr(DEFAULTS, name):
            raise BadInput(
                "block formats have exact sums, float32 outputs and half-to-even rounding",
                got=f"{name} = {getattr(settings, name)} at {facts.key}",
                fix='drop it, or give the site block = "integers" by a rule',
            )
    for name in ("weight_granularity", "weight_symmetric"):
        if getattr(settings, name) is not None:
            raise BadInput(
                "block formats state the scales of weights themselves",
                got=f"{name} at {facts.key}",
                fix='drop it, or give the site block = "integers" by a rule',
            )


def _require_pairs(facts: SiteFacts, operands: Mapping[str, Operand], weight: QuantSpec | None) -> None:
    """Pairs of products saturate where unsigned bytes meet signed ones."""
    fits = all(o.range is not ActivationRange.ROW and o.spec.format.bits <= 8 for o in operands.values())
    if not fits or weight is None or weight.format.bits > 8 or not weight.format.signed:
        raise BadInput(
            "a pair accumulator multiplies unsigned bytes by a weight of signed bytes",
            got=str(facts.key),
            fix="set it by a rule for @weights, with at most 8 bits, symmetric weights and no scales per row",
        )


def _require_requantizer(settings: Settings, facts: SiteFacts, operands: Mapping[str, Operand]) -> None:
    if facts.contracted is not None and 0 < (settings.group_size or 0) < facts.contracted:
        return  # the group register's float is quantized
    if any(operand.logarithmic for operand in operands.values()):
        return  # likewise; so it is where ranges have groups of channels
    if any(operand.range is ActivationRange.ROW for operand in operands.values()):
        raise BadInput(
            "a requantizer takes one activation scale",
            got=f"scales per row at {facts.key}",
            fix="use -dyn, or no output",
        )
    widest: int = settings.requantizer.LARGEST_BITS  # type: ignore[union-attr]  # called where there is one
    assert settings.output_bits is not None
    if settings.output_bits > widest:
        name = next(name for name, kind in REQUANTIZERS.items() if kind is settings.requantizer)
        raise BadInput(
            f"the requantizer {name} has outputs of at most {widest} bits",
            got=f"{settings.output_bits} at {facts.key}",
            fix="choose another requantizer",
        )


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
