"""Write docs/formats.md and docs/targets.md from the values they describe.

Run from the repository's root: ``python docs/generate_tables.py``. It takes a second; a test holds that the committed
files are what it writes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from enum import Enum
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from simulator.arithmetic import fixed_point  # noqa: E402
from simulator.arithmetic.block_formats import MX_FORMATS, NVFP4, BlockFormat, FixedPoint, ScaleMode  # noqa: E402
from simulator.arithmetic.float_formats import FLOAT32, NARROW_FORMATS, FloatFormat, Overflow  # noqa: E402
from simulator.arithmetic.formats import IntFormat  # noqa: E402
from simulator.arithmetic.granularity import PerAxis, PerBlock, PerGroup  # noqa: E402
from simulator.arithmetic.packed_layouts import LAYOUTS  # noqa: E402
from simulator.arithmetic.pair_accumulator import PairAccumulator  # noqa: E402
from simulator.arithmetic.quantizer import QuantSpec  # noqa: E402
from simulator.arithmetic.requantize import REQUANTIZERS  # noqa: E402
from simulator.arithmetic.rounding import Rounding  # noqa: E402
from simulator.arithmetic.rules import QUANTIZE_RULES, Conversion, QuantizeRule, Special, ZeroPoint  # noqa: E402
from simulator.arithmetic.scale_formats import (  # noqa: E402
    FixedPointScale,
    Float32Scale,
    FloatScale,
    PowerOfTwoScale,
)
from simulator.targets import TARGETS, Epilogue, Evidence, FloatAccumulator, Kernel, Target  # noqa: E402

ELEMENTS = "tests/peers/test_element_formats.py"
PACKING = "tests/peers/test_packing_peers.py"
FLOAT_PEERS = {
    "E4M3": ("gfloat", "torch"),
    "E4M3_NAN": ("ml_dtypes", "gfloat"),
    "E5M2": ("gfloat",),
    "E5M2_INF": ("ml_dtypes", "gfloat", "torch"),
    "E3M2": ("ml_dtypes", "gfloat"),
    "E2M3": ("ml_dtypes", "gfloat"),
    "E2M1": ("ml_dtypes", "gfloat"),
    "E8M0": ("ml_dtypes", "gfloat", "torch"),
    "float16": ("gfloat", "torch"),
    "bfloat16": ("ml_dtypes", "gfloat", "torch"),
}
"""Peers that each element format is compared with; a test holds it against the tables of the comparison."""
BLOCK_PEERS = {
    "MXINT8": ("gfloat",),
    "MXFP8_E4M3": ("torchao", "gfloat"),
    "MXFP8_E5M2": ("torchao", "gfloat"),
    "MXFP6_E3M2": ("torchao", "gfloat"),
    "MXFP6_E2M3": ("torchao", "gfloat"),
    "MXFP4": ("torchao", "gfloat"),
    "NVFP4": ("torchao",),
}
LAYOUT_PEERS = {
    "ONNX": ("onnx",),
    "torchao": ("torchao",),
    "torchao tinygemm": ("torchao",),
    "GPTQ": ("auto-gptq",),
    "GPTQ zeros": ("auto-gptq",),
    "AWQ": ("autoawq",),
    "Marlin": ("auto-gptq",),
}
INTEGER_PEERS = {
    "int8": ("torch", "onnxruntime", "torchao"),
    "uint8": ("torch", "onnxruntime", "torchao"),
    "int4": ("onnxruntime",),
    "uint4": ("onnxruntime",),
    "int16": ("onnxruntime",),
    "uint16": ("onnxruntime",),
}
RULE_TESTS = "tests/peers/test_quantize_rules_torch.py, tests/peers/test_quantize_rules_onnxruntime.py"


def version_of(peer: str) -> str:
    """The version that constraints.txt pins."""
    (found,) = re.findall(rf"^{peer}==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    return found


def peers(names: Iterable[str]) -> str:
    """Names with their versions."""
    return ", ".join(f"{name} {version_of(name)}" for name in names) or "none"


def table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    """A Markdown table."""
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(str(cell).replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def number(value: float) -> str:
    """A value, as a power of two where that is shorter."""
    mantissa, exponent = value.hex().split("p")
    return f"2^{int(exponent)}" if set(mantissa.removeprefix("0x1")) <= set(".0") and value else f"{value:.9g}"


def code(text: str) -> str:
    """Inline code."""
    return f"`{text}`"


# --- formats ---


def formats() -> str:
    """docs/formats.md."""
    return "\n".join(
        [
            "# Number formats",
            "",
            "Generated from the values in `simulator.arithmetic` by `python docs/generate_tables.py`. A peer is a",
            "library whose encoder, decoder or quantizer was compared bit for bit, in the version given; the test's",
            "docstring names the differences that remain.",
            "",
            "## Integers",
            "",
            "`IntFormat(bits, signed, narrow)`, 1 to 16 bits; narrow drops the most negative code.",
            "",
            table(("format", "bits", "codes", "narrow codes", "dtype", "peers", "test"), map(integer_row, INTEGERS)),
            "## Floats",
            "",
            "`FloatFormat`; exponents are those of the smallest and the largest finite normal value.",
            "",
            table(
                ("format", "bits", "sign, exponent, mantissa", "bias", "emin", "emax", "largest", "smallest positive",
                 "infinity, NaN", "beyond the largest", "peers", "test"),
                map(float_row, (*NARROW_FORMATS, FLOAT32)),
            ),
            "## Blocks",
            "",
            f"`BlockFormat`; the shared exponent of MX by {', '.join(code(mode.value) for mode in ScaleMode)}.",
            "",
            table(
                ("format", "element", "emax", "largest element", "block", "block scale", "tensor scale",
                 "bits per element", "peers", "test"),
                map(block_row, (*MX_FORMATS, NVFP4)),
            ),
            "## Packed words",
            "",
            "`PackedLayout`; codes of 2 and 4 bits inside stored words.",
            "",
            table(
                ("layout", "formats", "word", "first code in the", "peers", "test"),
                (
                    (
                        layout.name,
                        ", ".join(layout.formats),
                        f"{layout.word_bits} bits",
                        "high bits" if layout.high_first else "low bits",
                        peers(LAYOUT_PEERS.get(layout.name, ())),
                        code(PACKING) if layout.name in LAYOUT_PEERS else "none",
                    )
                    for layout in LAYOUTS.values()
                ),
            ),
            "## Formats of a scale",
            "",
            "A scale is computed in float32 and then rounded into its format.",
            "",
            table(("format", "rule"), SCALE_FORMATS),
        ]
    )  # fmt: skip


INTEGERS = tuple(IntFormat(bits, signed) for bits in (2, 3, 4, 5, 6, 7, 8, 16) for signed in (True, False))
SCALE_FORMATS = tuple(
    (code(kind.__name__), (kind.__doc__ or "").split("\n")[0].replace("``", "`"))
    for kind in (Float32Scale, FloatScale, PowerOfTwoScale, FixedPointScale)
)


def integer_row(fmt: IntFormat) -> tuple[object, ...]:
    """One row."""
    narrow = IntFormat(fmt.bits, fmt.signed, narrow=True) if fmt.signed else None
    named = INTEGER_PEERS.get(str(fmt), ())
    test = RULE_TESTS if "torch" in named else "tests/peers/test_quantize_rules_onnxruntime.py"
    return (
        fmt,
        fmt.bits,
        f"{fmt.qmin}..{fmt.qmax}",
        f"{narrow.qmin}..{narrow.qmax}" if narrow else "",
        fmt.dtype,
        peers(named),
        ", ".join(map(code, test.split(", "))) if named else "none",
    )


def float_row(fmt: FloatFormat) -> tuple[object, ...]:
    """One row."""
    special = ("infinity" if fmt.infinities else "no infinity") + (", NaN" if fmt.nans else ", no NaN")
    beyond = {Overflow.SATURATE: "largest", Overflow.INFINITY: "infinity", Overflow.NAN: "NaN"}[fmt.overflow]
    smallest = fmt.decode_exact(1 if fmt.subnormals else 0)
    named = FLOAT_PEERS.get(fmt.name, ())
    return (
        fmt.name, fmt.bits, f"{int(fmt.signed)}, {fmt.exponent_bits}, {fmt.mantissa_bits}", fmt.bias, fmt.emin,
        fmt.emax, number(fmt.max), number(smallest), special, beyond, peers(named), code(ELEMENTS) if named else "none",
    )  # fmt: skip


def block_row(fmt: BlockFormat) -> tuple[object, ...]:
    """One row."""
    element = fmt.element
    name = "two's complement times 2^-6" if isinstance(element, FixedPoint) else element.name
    return (
        fmt.name, name, element.emax, number(element.max), fmt.size, fmt.scale.name,
        "float32" if fmt.two_level else "none", f"{element.bits + fmt.scale.bits / fmt.size:g}",
        peers(BLOCK_PEERS[fmt.name]), code(ELEMENTS),
    )  # fmt: skip


# --- targets ---


def targets() -> str:
    """docs/targets.md."""
    used = {spec.rule.name: spec for target in TARGETS.values() for spec in (*target.activations, *target.weights)}
    return "\n".join(
        [
            "# Targets",
            "",
            "Generated from the values in `simulator.targets` by `python docs/generate_tables.py`. A target is a whole",
            "machine: what it multiplies, the register it adds in, and how a sum becomes a code or a float. Evidence:",
            "`verified` (compared with the peer's own operators; only these are bit-exact, and only as far as their",
            "scope says), `source` (the peer's source was read) or `specified` (the target is its own specification).",
            "A machine of your own is a TOML table: `simulator.targets.load_target`.",
            "",
            "Notation: `f32` rounds to float32 and `f16` to float16, ties to even; `rint` to the nearest integer, ties",
            "to even; `half_away` likewise, ties away from zero; `inv = f32(1 / scale)`; `acc` is the integer sum,",
            "`zp` a zero point, `b` a float32 bias, `ats = f32(x_scale * w_scale)`,",
            "`m = x_scale * w_scale / y_scale` in float64. Codes are clipped to their format last.",
            "",
            table(
                ("target", "peer", "evidence", "activations", "weights", "codes out", "operations"),
                map(target_row, TARGETS.values()),
            ),
            "## Quantize rules",
            "",
            table(
                ("rule", "code before clipping", "NaN", "what it is"),
                (
                    (
                        code(name),
                        code(rule_formula(spec.rule, spec.rounding)),
                        special(spec.rule),
                        spec.rule.peer,
                    )
                    for name in QUANTIZE_RULES
                    if (spec := used.get(name))
                ),
            ),
            "## Requantizers",
            "",
            table(
                ("requantizer", "code before clipping", "bias"),
                ((code(name), in_words(kind), bias_of(kind)) for name, kind in REQUANTIZERS.items()),
            ),
            "## Fixed-point steps",
            "",
            table(
                ("function of `simulator.arithmetic.fixed_point`", "what it is"),
                ((code(step.__name__), in_words(step)) for step in FIXED_POINT),
            ),
            "## Float epilogues",
            "",
            table(("epilogue", "float out"), ((code(e.name.lower()), code(e.value)) for e in Epilogue)),
            *(section(target) for target in TARGETS.values()),
        ]
    )


FIXED_POINT = (
    fixed_point.quantize_multiplier,
    fixed_point.saturating_rounding_doubling_high_mul,
    fixed_point.rounding_divide_by_pot,
    fixed_point.multiply_double_rounding,
    fixed_point.multiply_single_rounding,
    fixed_point.multiply_two_step_half_up,
    fixed_point.fbgemm_multiplier,
    fixed_point.multiply_half_up_shift,
)


def target_row(target: Target) -> tuple[object, ...]:
    """One row of the summary."""
    evidence = f"**{target.evidence.value}**" if target.evidence is Evidence.VERIFIED else target.evidence.value
    return (
        f"[{target.name}](#{target.name})", target.peer, evidence,
        names(spec.format for spec in target.activations) or str(target.intermediate),
        names(spec.format for spec in target.weights), names(target.outputs) or "none",
        ", ".join(name for name, kernel in target.kernels.items() if kernel),
    )  # fmt: skip


def names(values: Iterable[object]) -> str:
    """Each once, in order."""
    return ", ".join(dict.fromkeys(map(str, values)))


def section(target: Target) -> str:
    """All fields of one target."""
    rows: list[tuple[str, str]] = [
        ("peer", target.peer),
        ("evidence", f"{target.evidence.value}: {target.proof.scope}"),
        ("where", ", ".join(map(code, target.proof.where)) or "this table"),
        ("activations", "; ".join(map(spec_text, target.activations)) or f"{target.intermediate}, not quantized"),
        ("their parameters", target.parameters.value),
        ("weights", "; ".join(map(spec_text, target.weights))),
        ("codes out", names(target.outputs) or "none"),
        ("between operations", f"the codes out, or {target.intermediate}"),
        *((name, kernel_text(kernel)) for name, kernel in target.kernels.items()),
        ("group register", "none" if target.groups is None else f"{target.groups.format}, {target.groups.order.value}"),
        ("unspecified", "; ".join(target.unspecified) or "nothing"),
    ]
    return f"## {target.name}\n\n" + table(("field", "value"), rows)


def spec_text(spec: QuantSpec) -> str:
    """A QuantSpec in words."""
    zero = "zero point 0" if spec.symmetric else "with zero point"
    return f"{spec.format} {granularity(spec)}, {zero}, rule {code(spec.rule.name)}, scale {scale_text(spec)}"


def granularity(spec: QuantSpec) -> str:
    """Of a matrix (rows or outputs, depth)."""
    how = spec.granularity
    if isinstance(how, PerAxis):
        return "per row or output"
    if isinstance(how, PerGroup):
        return f"per row or output and {how.size} of the depth"
    return f"per block {how.sizes}" if isinstance(how, PerBlock) else "per tensor"


def scale_text(spec: QuantSpec) -> str:
    """Format of the scale."""
    scale = spec.scale_format
    return str(scale.format) if isinstance(scale, FloatScale) else type(scale).__name__.removesuffix("Scale").lower()


def kernel_text(kernel: Kernel | None) -> str:
    """Accumulator, requantizer and epilogue."""
    if kernel is None:
        return "none"
    parts = [accumulator_text(kernel)]
    if kernel.requantizer is not None:
        name = next(name for name, kind in REQUANTIZERS.items() if kind is kernel.requantizer)
        parts.append(f"requantizer {code(name)} with weight scale {code(kernel.weight_scale.value)}")
        parts.append(f"bias {kernel.bias.value}")
    parts.append("no float output" if kernel.epilogue is None else f"float output {code(kernel.epilogue.name.lower())}")
    return "; ".join(parts)


def accumulator_text(kernel: Kernel) -> str:
    """Every field of the register."""
    register = kernel.accumulator
    if isinstance(register, PairAccumulator):
        return f"int32 sums of products added in pairs that saturate to 16 bits, pairing = {register.pairing.value}"
    if isinstance(register, FloatAccumulator):
        return f"{register.format} sums in ascending k, each rounded"
    values = ((field.name, getattr(register, field.name)) for field in fields(register))
    return "register " + ", ".join(f"{n} = {v.name.lower() if isinstance(v, Enum) else v}" for n, v in values)


def rule_formula(rule: QuantizeRule, rounding: Rounding) -> str:
    """Code of ``x`` before clipping."""
    quotient = "x / scale" if rule.divides else "x inv"
    to_integer = {Rounding.HALF_EVEN: "rint", Rounding.HALF_AWAY: "half_away"}[rounding]
    if rule.zero_point is ZeroPoint.FUSED:
        return f"{to_integer}(f32({quotient} + zp)), the multiply-add rounded once"
    if rule.zero_point is ZeroPoint.BEFORE:
        return f"{to_integer}(f32(f32({quotient}) + zp))"
    rounded = f"{to_integer}(f32({quotient}))"
    return (
        f"{rounded} + zp"
        if rule.conversion is Conversion.SATURATE
        else f"{rule.conversion.name.lower()}({rounded}) + zp"
    )


def special(rule: QuantizeRule) -> str:
    """Code of NaN."""
    return {Special.QMIN: "qmin", Special.QMAX: "qmax", Special.ZERO: "0"}.get(
        rule.nan, "qmin; qmax where the zero point is negative"
    )


def in_words(kind: Callable[..., object]) -> str:
    """Its docstring up to the arguments, on one line."""
    text = re.split(r"\n\s*(?:Args|Source|Raises|>>>)", kind.__doc__ or "")[0]
    return " ".join(text.split()).replace("``", "`")


def bias_of(kind: type) -> str:
    """Dtype of its bias."""
    return kind.BIAS.__name__ if hasattr(kind, "BIAS") else "codes (C)"


PAGES = {"formats.md": formats, "targets.md": targets}


def main() -> None:
    """Write both pages."""
    for name, page in PAGES.items():
        (ROOT / "docs" / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
