"""The integer engine on numpy arrays: formats, quantizers, accumulators, contractions, requantizers.

numpy and numba only: neither torch nor xarray is loaded. Names load on first use; each one's module says what it
computes. Block formats (``blockscale``) and fast contractions of prepared operands (``contract``) are modules of their
own: ``from simulator.arithmetic import blockscale, contract``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.arithmetic.accumulator import (
        Accumulator,
        Bias,
        Count,
        KOrder,
        Overflow,
        ZeroPoint,
        accumulate_exact,
    )
    from simulator.arithmetic.block_formats import (
        MX_FORMATS,
        MXFP4,
        MXFP6_E2M3,
        MXFP6_E3M2,
        MXFP8_E4M3,
        MXFP8_E5M2,
        MXINT8,
        NVFP4,
        BlockFormat,
        ScaleMode,
    )
    from simulator.arithmetic.codes_out import conv_codes, linear_codes
    from simulator.arithmetic.conv import integer_conv, integer_conv_transpose
    from simulator.arithmetic.dynamic import quantize_dynamic_linear, quantize_matmul_nbits_rows, quantize_torchao_rows
    from simulator.arithmetic.exact import exact_conv, exact_matmul
    from simulator.arithmetic.float_codes import decode, encode
    from simulator.arithmetic.float_formats import (
        BFLOAT16,
        E2M1,
        E2M3,
        E3M2,
        E4M3,
        E4M3_NAN,
        E5M2,
        E5M2_INF,
        E8M0,
        FLOAT16,
        FLOAT32,
        FloatFormat,
    )
    from simulator.arithmetic.formats import IntFormat
    from simulator.arithmetic.geometry import Geometry
    from simulator.arithmetic.granularity import (
        Granularity,
        PerAxis,
        PerBlock,
        PerGroup,
        PerTensor,
    )
    from simulator.arithmetic.group_sums import (
        GroupOrder,
        GroupRegister,
        add_groups,
        add_integer_groups,
    )
    from simulator.arithmetic.log_sqrt2 import LogCodes, LogSqrt2
    from simulator.arithmetic.machine import Capabilities, capabilities
    from simulator.arithmetic.matmul import Accumulated, integer_matmul
    from simulator.arithmetic.operands import (
        Activation,
        ScaledFormat,
        quantize_image,
        quantize_matrices,
    )
    from simulator.arithmetic.packed_layouts import LAYOUTS, PackedLayout
    from simulator.arithmetic.packing import pack, unpack
    from simulator.arithmetic.pair_accumulator import PairAccumulator, Pairing, accumulate_pairs_exact
    from simulator.arithmetic.quantizer import (
        Quantized,
        QuantSpec,
        dequantize,
        parameters_from_range,
        quantize,
        quantize_to_range,
    )
    from simulator.arithmetic.requantize import (
        REQUANTIZERS,
        CutlassRequantizer,
        FbgemmFixedPointRequantizer,
        FbgemmRequantizer,
        GemmlowpRequantizer,
        OnednnRequantizer,
        OnnxRuntimeRequantizer,
        QnnpackRequantizer,
        Requantized,
        Requantizer,
        RuyRequantizer,
        SingleRoundingRequantizer,
        TfliteFullyConnectedRequantizer,
        XnnpackRequantizer,
    )
    from simulator.arithmetic.rounding import Rounding, round_exact
    from simulator.arithmetic.rules import DIVIDE, QUANTIZE_RULES, QuantizeRule
    from simulator.arithmetic.scale_formats import (
        FixedPointScale,
        Float32Scale,
        FloatScale,
        PowerOfTwoScale,
        ScaleFormat,
    )
    from simulator.arithmetic.sequential import sequential_sum_exact, sequential_sums
    from simulator.arithmetic.shifted_products import shifted_product, shifted_sums
    from simulator.arithmetic.weights import PreparedWeight, prepare_matrices, prepare_weight

_HOMES = {
    "accumulator": "Accumulator Bias Count KOrder Overflow ZeroPoint accumulate_exact",
    "block_formats": "BlockFormat MXFP4 MXFP6_E2M3 MXFP6_E3M2 MXFP8_E4M3 MXFP8_E5M2 MXINT8 MX_FORMATS NVFP4 ScaleMode",
    "codes_out": "conv_codes linear_codes",
    "conv": "integer_conv integer_conv_transpose",
    "dynamic": "quantize_dynamic_linear quantize_matmul_nbits_rows quantize_torchao_rows",
    "exact": "exact_conv exact_matmul",
    "float_codes": "decode encode",
    "float_formats": "BFLOAT16 E2M1 E2M3 E3M2 E4M3 E4M3_NAN E5M2 E5M2_INF E8M0 FLOAT16 FLOAT32 FloatFormat",
    "formats": "IntFormat",
    "geometry": "Geometry",
    "granularity": "Granularity PerAxis PerBlock PerGroup PerTensor",
    "group_sums": "GroupOrder GroupRegister add_groups add_integer_groups",
    "log_sqrt2": "LogCodes LogSqrt2",
    "machine": "Capabilities capabilities",
    "matmul": "Accumulated integer_matmul",
    "operands": "Activation ScaledFormat quantize_image quantize_matrices",
    "packed_layouts": "LAYOUTS PackedLayout",
    "packing": "pack unpack",
    "pair_accumulator": "PairAccumulator Pairing accumulate_pairs_exact",
    "quantizer": "QuantSpec Quantized dequantize parameters_from_range quantize quantize_to_range",
    "requantize": (
        "CutlassRequantizer FbgemmFixedPointRequantizer FbgemmRequantizer GemmlowpRequantizer OnednnRequantizer "
        "OnnxRuntimeRequantizer QnnpackRequantizer REQUANTIZERS Requantized Requantizer RuyRequantizer "
        "SingleRoundingRequantizer TfliteFullyConnectedRequantizer XnnpackRequantizer"
    ),
    "rounding": "Rounding round_exact",
    "rules": "DIVIDE QUANTIZE_RULES QuantizeRule",
    "scale_formats": "FixedPointScale Float32Scale FloatScale PowerOfTwoScale ScaleFormat",
    "sequential": "sequential_sum_exact sequential_sums",
    "shifted_products": "shifted_product shifted_sums",
    "weights": "PreparedWeight prepare_matrices prepare_weight",
}
_HOME = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "BFLOAT16", "DIVIDE", "E2M1", "E2M3", "E3M2", "E4M3", "E4M3_NAN", "E5M2", "E5M2_INF", "E8M0", "FLOAT16",
    "FLOAT32", "LAYOUTS", "MXFP4", "MXFP6_E2M3", "MXFP6_E3M2", "MXFP8_E4M3", "MXFP8_E5M2", "MXINT8",
    "MX_FORMATS", "NVFP4", "QUANTIZE_RULES", "REQUANTIZERS", "Accumulated", "Accumulator", "Activation", "Bias",
    "BlockFormat", "Capabilities", "Count", "CutlassRequantizer", "FbgemmFixedPointRequantizer",
    "FbgemmRequantizer", "FixedPointScale", "Float32Scale", "FloatFormat", "FloatScale", "GemmlowpRequantizer",
    "Geometry", "Granularity", "GroupOrder", "GroupRegister", "IntFormat", "KOrder", "LogCodes", "LogSqrt2",
    "OnednnRequantizer",
    "OnnxRuntimeRequantizer", "Overflow", "PackedLayout", "PairAccumulator", "Pairing", "PerAxis", "PerBlock",
    "PerGroup", "PerTensor", "PowerOfTwoScale", "PreparedWeight", "QnnpackRequantizer", "QuantSpec",
    "QuantizeRule", "Quantized", "Requantized", "Requantizer", "Rounding", "RuyRequantizer", "ScaleFormat",
    "ScaleMode", "ScaledFormat", "SingleRoundingRequantizer", "TfliteFullyConnectedRequantizer",
    "XnnpackRequantizer", "ZeroPoint", "accumulate_exact", "accumulate_pairs_exact", "add_groups",
    "add_integer_groups", "capabilities", "conv_codes", "decode", "dequantize", "encode", "exact_conv",
    "exact_matmul", "integer_conv", "integer_conv_transpose", "integer_matmul", "linear_codes", "pack",
    "parameters_from_range", "prepare_matrices", "prepare_weight", "quantize", "quantize_dynamic_linear",
    "quantize_image", "quantize_matmul_nbits_rows", "quantize_matrices", "quantize_to_range",
    "quantize_torchao_rows", "round_exact", "sequential_sum_exact", "sequential_sums",
    "shifted_product", "shifted_sums", "unpack",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
