"""What can be set of a site, each field on its own: ``None`` leaves it as an earlier rule, or the default, has it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import Enum

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator
from simulator.arithmetic.arguments import require_integer, require_kind
from simulator.arithmetic.block_formats import MXFP4, MXFP6_E2M3, MXINT8, NVFP4, BlockFormat
from simulator.arithmetic.group_sums import GroupRegister
from simulator.arithmetic.pair_accumulator import PairAccumulator
from simulator.arithmetic.requantize import REQUANTIZERS, OnnxRuntimeRequantizer
from simulator.arithmetic.rounding import Rounding
from simulator.targets.description import AnyRequantizer, BiasKind, bias_of

LARGEST_BITS = 16
"""Widest codes of the engine."""

INTEGERS = "integers"
"""The setting of ``block`` that stands for no block format."""

BLOCKS: dict[str, BlockFormat] = {"mxint8": MXINT8, "mxfp4": MXFP4, "mxfp6": MXFP6_E2M3, "nvfp4": NVFP4}
"""Block formats of a scheme: those whose elements are multiples of a power of two that fit a signed byte, so that the
sum of a block is one integer. MXFP8's and E3M2's elements span more bits than a byte holds."""


class ActivationRange(Enum):
    """Where the scale and zero point of a run-time operand come from."""

    STATIC = "static"
    """From calibration: asymmetric, unsigned, one scale per tensor."""
    TENSOR = "tensor"
    """From each tensor's own minimum and maximum: asymmetric, unsigned, one scale per tensor."""
    ROW = "row"
    """From the largest magnitude of each row of a matrix (each token) or sample of an image: symmetric, signed."""


class WeightGranularity(Enum):
    """Which elements of a weight share a scale, where no group size says so."""

    CHANNEL = "channel"
    """Those of one output channel."""
    TENSOR = "tensor"
    """All."""


class ProbabilityFormat(Enum):
    """What codes of a softmax output, the left operand of P V, stand for."""

    UNIFORM = "uniform"
    """Multiples of 1 / (2^bits - 1)."""
    LOG_SQRT2 = "log-sqrt2"
    """Half octaves below the calibrated largest value (``simulator.arithmetic.log_sqrt2``)."""
    LOG_SQRT2_ZERO = "log-sqrt2-zero"
    """Likewise, with one level more: what lies below the smallest is 0, as in RepQ-ViT's released code."""


@dataclass(frozen=True)
class Settings:
    """Settings of one or more sites.

    Args:
        weight_bits: 2 to 16.
        weight_granularity: one scale per output channel, or per tensor; None is per output channel, and on a target
            what it has most scales of.
        weight_symmetric: True for signed codes of narrow range with zero point 0, False for unsigned codes ``0 ..
            2^bits - 1`` with a zero point for each scale; None is True, and on a target what it has.
        group_size: input channels that share a weight scale, 0 for all of them.
        activation_bits: 2 to 16, of every run-time operand.
        query_bits: of the left operand of QK^T, where it differs; likewise ``key_bits``.
        key_bits: of its right operand.
        probability_bits: of the left operand of P V, the softmax output: unsigned, scale 1 / (2^bits - 1).
        value_bits: of its right operand.
        probability_format: what the codes of a softmax output stand for.
        activation_range: where run-time operands get their parameters from.
        activation_groups: how many groups of channels of a run-time operand with a static range may have a scale of
            their own; which, the ranges say. 1 is one scale per tensor, 0 any number, up to one per channel.
        block: ``"integers"``, or a block format of ``BLOCKS`` for weights and run-time operands alike; bits, group
            size and ranges then say nothing.
        accumulator: the register of the integer sums.
        group_register: the register in which rescaled group sums are added.
        output_bits: width of the requantized output, unsigned and asymmetric; 0 for float32.
        requantizer: from sums to output codes, where no groups lie between them.
        rounding: of weights, run-time operands and, with groups, the output.
        keep_float: leave the site in float32.

    Raises:
        BadInput: a width, size or format that the engine does not have, or a stochastic rounding.
    """

    weight_bits: int | None = None
    weight_granularity: WeightGranularity | None = None
    weight_symmetric: bool | None = None
    group_size: int | None = None
    activation_bits: int | None = None
    query_bits: int | None = None
    key_bits: int | None = None
    probability_bits: int | None = None
    value_bits: int | None = None
    probability_format: ProbabilityFormat | None = None
    activation_range: ActivationRange | None = None
    activation_groups: int | None = None
    block: str | None = None
    accumulator: Accumulator | PairAccumulator | None = None
    group_register: GroupRegister | None = None
    output_bits: int | None = None
    requantizer: AnyRequantizer | None = None
    rounding: Rounding | None = None
    keep_float: bool | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if field.name == "output_bits" and value == 0:
                continue
            if field.name.endswith("_bits"):
                require_integer(field.name, value, 2, LARGEST_BITS)
        if self.group_size is not None:
            require_integer("group_size", self.group_size, 0)
        if self.activation_groups is not None:
            require_integer("activation_groups", self.activation_groups, 0)
        if self.block is not None and self.block not in (INTEGERS, *BLOCKS):
            raise BadInput(
                f"block must be one of {INTEGERS}, {', '.join(BLOCKS)}",
                got=repr(self.block),
                fix="use one whose elements fit a byte",
            )
        if self.rounding is Rounding.STOCHASTIC:
            # it would need a stream for each step and site
            raise BadInput("a scheme rounds deterministically", got=self.rounding.name, fix="choose another mode")
        for name, kind in (
            ("weight_granularity", WeightGranularity),
            ("weight_symmetric", bool),
            ("probability_format", ProbabilityFormat),
            ("activation_range", ActivationRange),
            ("accumulator", (Accumulator, PairAccumulator)),
            ("group_register", GroupRegister),
            ("rounding", Rounding),
            ("keep_float", bool),
        ):
            if getattr(self, name) is not None:
                require_kind(name, getattr(self, name), kind)
        if self.requantizer is not None and self.requantizer not in REQUANTIZERS.values():
            raise BadInput(
                "requantizer must be one of simulator.arithmetic.REQUANTIZERS",
                got=repr(self.requantizer),
                fix=f"take one of {', '.join(REQUANTIZERS)}",
            )
        if self.requantizer is not None and bias_of(self.requantizer) is BiasKind.CODES:
            raise BadInput(
                "a requantizer with an output zero point is needed", got=self.requantizer.__name__, fix="use another"
            )

    def __or__(self, other: Settings) -> Settings:
        """These, with what ``other`` sets."""
        stated = {f.name: value for f in fields(other) if (value := getattr(other, f.name)) is not None}
        return replace(self, **stated)


DEFAULTS = Settings(
    weight_bits=8,
    group_size=0,
    activation_bits=8,
    probability_format=ProbabilityFormat.UNIFORM,
    activation_range=ActivationRange.STATIC,
    activation_groups=1,
    block=INTEGERS,
    accumulator=Accumulator(),
    group_register=GroupRegister(),
    output_bits=0,
    requantizer=OnnxRuntimeRequantizer,
    rounding=Rounding.HALF_EVEN,
    keep_float=False,
)
"""What a site has where nothing else is said; the four attention operands follow ``activation_bits``, and what is not
named of weights is per output channel and symmetric, or as a target has it."""
