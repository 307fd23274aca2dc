"""What one site gets: its operands, weight, register and output as specs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from simulator.arithmetic.accumulator import Accumulator, Overflow
from simulator.arithmetic.block_formats import BlockFormat
from simulator.arithmetic.granularity import PerTensor
from simulator.arithmetic.group_sums import GroupRegister
from simulator.arithmetic.pair_accumulator import PairAccumulator
from simulator.arithmetic.quantizer import QuantSpec
from simulator.instrument.contractions import PROBABILITY
from simulator.instrument.scheme.settings import ActivationRange, ProbabilityFormat
from simulator.instrument.weight_codes import WeightBounds
from simulator.targets.description import AnyRequantizer, Target

_RANGES = {ActivationRange.STATIC: "", ActivationRange.TENSOR: " dynamic", ActivationRange.ROW: " per row"}


@dataclass(frozen=True)
class Operand:
    """A run-time operand: its codes, and where their scale and zero point come from.

    Attributes:
        spec: format and rounding of its codes.
        range: where scale and zero point come from.
        groups: most groups of channels with a scale of their own; 1 is one scale, 0 any number.
        form: what the codes stand for; other than UNIFORM for softmax outputs only.
    """

    spec: QuantSpec
    range: ActivationRange
    groups: int = 1
    form: ProbabilityFormat = ProbabilityFormat.UNIFORM

    @property
    def logarithmic(self) -> bool:
        """Whether codes are log-sqrt2 ones."""
        return self.form is not ProbabilityFormat.UNIFORM

    def describe(self) -> str:
        """A few words for tables."""
        groups = "" if self.groups == 1 else f" {self.groups} groups" if self.groups else " per channel"
        form = f" {self.form.value}" if self.logarithmic else _RANGES[self.range]
        return f"a{self.spec.format.bits}{form}{groups}"


@dataclass(frozen=True)
class Treatment:
    """How a site is computed.

    Attributes:
        operands: by role; empty where ``in_float``.
        weight: of the weight, None where there is none or where ``block`` holds it.
        output: of the requantized output, None for float32.
        accumulator: the register.
        group_register: of rescaled group sums.
        requantizer: from sums to output codes.
        block: block format of weight and operands.
        target: the machine that computes the site, or None.
        in_float: whether it stays in float32.
        weight_bounds: given bounds of the weight, None for its own extremes.
    """

    operands: Mapping[str, Operand] = field(hash=False)
    weight: QuantSpec | None
    output: QuantSpec | None
    accumulator: Accumulator | PairAccumulator
    group_register: GroupRegister
    requantizer: AnyRequantizer
    block: BlockFormat | None = None
    target: Target | None = None
    in_float: bool = False
    weight_bounds: WeightBounds | None = None

    @property
    def weight_bits(self) -> int:
        """Bits of a weight, 0 where there is none, 32 in float."""
        if self.in_float:
            return 32
        return self.block.element.bits if self.block else self.weight.format.bits if self.weight else 0

    @property
    def activation_bits(self) -> int:
        """Bits of the widest run-time operand."""
        if self.in_float:
            return 32
        if self.block:
            return self.block.element.bits
        return max(operand.spec.format.bits for operand in self.operands.values())

    @property
    def multiplied_bits(self) -> tuple[int, int]:
        """Bits of each of the two operands that are multiplied, a weight last; 32 in float."""
        if self.in_float or self.block:
            return self.weight_bits, self.weight_bits
        left, *right = (operand.spec.format.bits for operand in self.operands.values())
        return left, (right[0] if right else self.weight_bits)

    @property
    def calibrated(self) -> bool:
        """Whether something of it has a range from calibration."""
        return self.output is not None or any(
            operand.range is ActivationRange.STATIC and (role != PROBABILITY or operand.logarithmic)
            for role, operand in self.operands.items()
        )

    @property
    def grouped(self) -> bool:
        """Whether groups of an operand's channels may have a scale of their own."""
        return any(operand.groups != 1 for operand in self.operands.values())

    @property
    def logarithmic(self) -> bool:
        """Whether an operand has log-sqrt2 codes."""
        return any(operand.logarithmic for operand in self.operands.values())

    @property
    def limited(self) -> bool:
        """Whether the register can lose something."""
        return not isinstance(self.accumulator, Accumulator) or self.accumulator.overflow is not Overflow.EXACT

    @property
    def regrouped(self) -> bool:
        """Whether group sums are added otherwise than in float32, one after the other."""
        return self.group_register != GroupRegister()

    @property
    def may_lose(self) -> bool:
        """Whether the register can lose something, or output codes can clip."""
        return not self.in_float and (self.limited or self.output is not None or self.target is not None)

    def describe(self) -> str:
        """A few words for tables: ``a8 w4 g64 o16 acc20``."""
        if self.in_float:
            return "float32"
        if self.block:
            return self.block.name
        words = [operand.describe() for operand in self.operands.values()]
        if self.weight:
            size = self.weight.granularity.group_size(1)
            kinds = ["asymmetric"] * (not self.weight.symmetric) + ["per tensor"] * (
                self.weight.granularity == PerTensor()
            )
            words += [f"w{self.weight.format.bits}"] + ([f"g{size}"] if size else []) + ([] if self.target else kinds)
        if self.output:
            words.append(f"o{self.output.format.bits}")
        if isinstance(self.accumulator, PairAccumulator):
            words.append("pairs saturate")
        elif self.accumulator.overflow is not Overflow.EXACT:
            words.append(
                f"{'acc' if self.accumulator.overflow is Overflow.SATURATE else 'wrap'}{self.accumulator.bits}"
            )
        return " ".join([*words, f"on {self.target}"] if self.target else words)


def with_exact_sums(treatment: Treatment) -> Treatment:
    """The same codes, summed exactly and rescaled in float32 by the engine; a target's dynamic blocks become rows."""
    return replace(treatment, output=None, accumulator=Accumulator(), group_register=GroupRegister(), target=None)
