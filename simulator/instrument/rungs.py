"""The ladder of attribution: which of a scheme's errors a pass holds, one more on each rung."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator
from simulator.arithmetic.float_formats import FLOAT32
from simulator.instrument.machines.blocks import Blocks
from simulator.instrument.machines.byte_codes import ByteCodes
from simulator.instrument.machines.channel_groups import NO_GROUPS, Groups
from simulator.instrument.machines.fake_quant import FakeQuant
from simulator.instrument.machines.grouped_bytes import GroupedBytes
from simulator.instrument.machines.log_products import LogProducts
from simulator.instrument.machines.machine import Machine, Parameters
from simulator.instrument.machines.on_target import OnTarget
from simulator.instrument.machines.registers import Registers
from simulator.instrument.plan import Plan
from simulator.instrument.treatment import Treatment, with_exact_sums
from simulator.targets.description import FloatAccumulator


class Rung(Enum):
    """What is quantized of a network's contractions."""

    WEIGHTS = "weights"
    """Weights alone, as real values in float products."""
    ACTIVATIONS = "activations"
    """Run-time operands alone, as real values in float products."""
    FAKE_QUANT = "fake-quant"
    """Both, as real values in float products: what repositories simulate."""
    INTEGERS = "integers"
    """Both, in integers: exact sums, float32 outputs."""
    REGISTER = "register"
    """And the scheme's registers. A target's own kernel for depthwise convolutions counts to COMPLETE."""
    COMPLETE = "complete"
    """And its requantized outputs and intermediate formats: the scheme as it is."""


LADDER = (Rung.WEIGHTS, Rung.INTEGERS, Rung.REGISTER, Rung.COMPLETE)
"""From float upwards, each with one source of error more; ACTIVATIONS stands beside WEIGHTS."""


def ladder(plan: Plan, steps: int = 1) -> tuple[Rung, ...]:
    """The rungs of ``LADDER`` that differ for a scheme: without limited registers REGISTER is INTEGERS, and so on."""
    treatments = [plan.at(facts.key, step) for facts in plan.sites for step in range(steps)]
    register = any(t.limited or t.regrouped or t.target for t in treatments)
    complete = plan.scheme.float_format != FLOAT32 or any(t.output or t.target for t in treatments)
    left_out = {Rung.REGISTER: not register, Rung.COMPLETE: not complete}
    return tuple(rung for rung in LADDER if not left_out.get(rung, False))


def machine(
    treatment: Treatment,
    operation: str,
    parameters: Parameters,
    rung: Rung = Rung.COMPLETE,
    groups: Groups = NO_GROUPS,
) -> Machine:
    """The machine of a site on a rung, the fastest that has the bits.

    Raises:
        BadInput: a register that the rung cannot have without the rest of its target.
    """
    if rung in (Rung.WEIGHTS, Rung.ACTIVATIONS, Rung.FAKE_QUANT):
        return FakeQuant(
            treatment,
            parameters,
            weights=rung is not Rung.ACTIVATIONS,
            activations=rung is not Rung.WEIGHTS,
            groups=groups,
        )
    if treatment.block is not None:
        return Blocks(treatment.block)
    if rung is Rung.INTEGERS:
        treatment = with_exact_sums(treatment)
    elif rung is Rung.REGISTER:
        treatment = _with_register(treatment, operation)
    if treatment.target is not None:
        return OnTarget(treatment, parameters)
    if treatment.logarithmic:
        return LogProducts(treatment, parameters, groups)
    if GroupedBytes.takes(treatment, operation, groups):
        return GroupedBytes(treatment, groups)
    if not groups and ByteCodes.takes(treatment, operation):
        return ByteCodes(treatment, parameters)
    return Registers(treatment, parameters, groups)


def _with_register(treatment: Treatment, operation: str) -> Treatment:
    """The scheme's register with float32 outputs."""
    target = treatment.target
    if target is None:
        return replace(treatment, output=None)
    kind = "conv" if operation.startswith("conv") else "linear" if treatment.weight else "matmul"
    kernel = target.kernels[kind]
    assert kernel is not None
    if isinstance(kernel.accumulator, FloatAccumulator):
        raise BadInput(f"{target} has no integer register", got=operation, fix="leave this rung out")
    exact = with_exact_sums(treatment)
    accumulator = kernel.accumulator
    limited = not isinstance(accumulator, Accumulator) or accumulator.overflow.value
    return replace(exact, accumulator=accumulator) if limited else exact
