"""Short strings: ``w4a8`` and what can be added to it.

``wXaY`` means: weights X bits, symmetric, narrow range, one scale per output channel; activations Y bits, unsigned,
asymmetric, one static scale per tensor from the minimum and maximum over all steps of a calibration run; both inputs
of QK^T and P V at Y bits; softmax outputs Y bits, unsigned, scale 1/(2^Y - 1); the first layer (it reads the sample)
and the last at 8 bits at least; every contraction in integers, summed exactly, rescaled in float32.

Each addition changes one thing, and they stand in this order:

===================  ==================================================================================================
``wXgN``             weight scales shared over N input channels
``oN``               outputs requantized to N bits
``-attnN``           operands of QK^T and P V at N bits
``-dyn``, ``-dynrow``  activation scales from each tensor, or from each row (symmetric), instead of calibration
``-accN``, ``-wrapN``  a register of N bits that saturates at every product, or wraps
``-f16``, ``-bf16``  every float result of the network rounded to float16 or bfloat16
``-half-away`` ...   another rounding than half to even: also half-up, half-down, toward-zero, floor, ceil
``@NAME``            on a target of ``simulator.targets``
===================  ==================================================================================================

``mxfp4``, ``mxfp6`` (E2M3), ``mxint8`` and ``nvfp4`` put weights and activations into that block format, the first and
last layers into 8-bit integers.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Overflow
from simulator.arithmetic.float_formats import BFLOAT16, FLOAT16
from simulator.arithmetic.rounding import Rounding
from simulator.instrument.scheme.patterns import ATTENTION, FIRST, LAST
from simulator.instrument.scheme.scheme import Rule, Scheme
from simulator.instrument.scheme.settings import BLOCKS, INTEGERS, ActivationRange, Settings
from simulator.targets.named import target as named_target

EDGE_BITS = 8
"""Least bits of the first and the last layer."""

_ROUNDINGS = {
    mode.name.lower().replace("_", "-"): mode
    for mode in Rounding
    if mode not in (Rounding.STOCHASTIC, Rounding.HALF_EVEN)
}
_FLOATS = {"f16": FLOAT16, "bf16": BFLOAT16}
_DYNAMIC = {"dyn": ActivationRange.TENSOR, "dynrow": ActivationRange.ROW}
_NUMBER = "([1-9][0-9]*)"
_FORM = re.compile(
    rf"(?:w{_NUMBER}(?:g{_NUMBER})?a{_NUMBER}|({'|'.join(BLOCKS)}))(?:o{_NUMBER})?(?:-attn{_NUMBER})?"
    rf"(?:-({'|'.join(_DYNAMIC)}))?(?:-(acc|wrap){_NUMBER})?(?:-({'|'.join(_FLOATS)}))?"
    rf"(?:-({'|'.join(_ROUNDINGS)}))?(?:@([a-z0-9-]+))?"
)


def read(text: str) -> Scheme:
    """The scheme of a short string; ``str`` of the result is its one spelling.

    Raises:
        BadInput: another form, or a width out of range.
    """
    spelled = re.sub(r"(?<=[a-z])0+(?=[1-9])", "", text.strip().lower())
    match = _FORM.fullmatch(spelled) if spelled.isascii() else None
    if match is None:
        raise BadInput(
            "a scheme must read wXaY, or w4g64a8o16-attn4-dyn-acc20-f16-half-away@target with any of these left out, "
            f"or one of {', '.join(BLOCKS)}",
            got=repr(text),
            fix="write for instance w8a8 or w4g32a8, additions in this order, or give a .toml file",
        )
    weight, group, activation, block, output, attention, dynamic, kind, register, floats, rounding, machine = (
        match.groups()
    )
    settings = Settings(
        weight_bits=_bits(weight),
        group_size=None if group is None else int(group),
        activation_bits=_bits(activation),
        activation_range=_DYNAMIC.get(dynamic),
        block=block,
        accumulator=_register(kind, register),
        output_bits=_bits(output),
        rounding=_ROUNDINGS.get(rounding),
    )
    in_integers = INTEGERS if block else None
    edges = Settings(
        weight_bits=max(EDGE_BITS, settings.weight_bits or 0),
        group_size=0,
        activation_bits=max(EDGE_BITS, settings.activation_bits or 0),
        block=in_integers,
    )
    attended = (Rule((ATTENTION,), Settings(activation_bits=_bits(attention), block=in_integers)),) if attention else ()
    return Scheme(
        settings,
        (*attended, Rule((FIRST, LAST), edges)),
        named_target(machine) if machine else None,
        _FLOATS.get(floats),
        spelled,
    )


def spell(scheme: Scheme) -> str:
    """The short string of a scheme that has one, else ``custom-`` and the first 8 digits of its settings' SHA-256."""
    s = scheme.settings
    accumulator = s.accumulator
    parts = [f"w{s.weight_bits}", f"g{s.group_size}" if s.group_size else "", f"a{s.activation_bits}"]
    if s.block is not None:
        parts = [s.block]
    parts.append(f"o{s.output_bits}" if s.output_bits else "")
    attended = [rule.settings.activation_bits for rule in scheme.rules if rule.sites == (ATTENTION,)]
    parts += [f"-attn{bits}" for bits in attended[:1]]
    parts += [f"-{name}" for name, value in _DYNAMIC.items() if value is s.activation_range]
    if isinstance(accumulator, Accumulator) and accumulator.overflow is not Overflow.EXACT:
        parts.append(f"-{'acc' if accumulator.overflow is Overflow.SATURATE else 'wrap'}{accumulator.bits}")
    parts += [f"-{name}" for name, value in _FLOATS.items() if value == scheme.intermediate]
    parts += [f"-{name}" for name, value in _ROUNDINGS.items() if value is s.rounding]
    if scheme.target is not None:
        parts.append(f"@{scheme.target.name}")
    spelled = "".join(parts)
    if _FORM.fullmatch(spelled):
        try:
            if read(spelled) == scheme:
                return spelled
        except BadInput:
            pass  # such as a target of the user's own
    digest = hashlib.sha256(json.dumps(replace(scheme, name="-").config(), sort_keys=True).encode()).hexdigest()
    return f"custom-{digest[:8]}"


def _bits(text: str | None) -> int | None:
    return None if text is None else int(text)


def _register(kind: str | None, bits: str | None) -> Accumulator | None:
    if kind is None or bits is None:
        return None
    return Accumulator(bits=int(bits), overflow=Overflow.SATURATE if kind == "acc" else Overflow.WRAP)
