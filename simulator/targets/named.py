"""The named machines, one value each. ``docs/targets.md`` is generated from them."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Bias, KOrder, Overflow, ZeroPoint
from simulator.arithmetic.float_formats import FLOAT16, FLOAT32
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerAxis, PerGroup, PerTensor
from simulator.arithmetic.group_sums import GroupOrder, GroupRegister
from simulator.arithmetic.pair_accumulator import PairAccumulator, Pairing
from simulator.arithmetic.quantizer import QuantSpec
from simulator.arithmetic.requantize import (
    CutlassRequantizer,
    FbgemmRequantizer,
    GemmlowpRequantizer,
    OnednnRequantizer,
    OnnxRuntimeRequantizer,
    QnnpackRequantizer,
    RuyRequantizer,
    TfliteFullyConnectedRequantizer,
    XnnpackRequantizer,
)
from simulator.arithmetic.rounding import Rounding
from simulator.arithmetic.rules import DIVIDE, TFLITE, TORCH_PER_CHANNEL, TORCH_PER_TENSOR, TORCHAO
from simulator.arithmetic.scale_formats import FloatScale
from simulator.targets.description import (
    BiasKind,
    Epilogue,
    Evidence,
    FloatAccumulator,
    Kernel,
    Parameters,
    Proof,
    Target,
    WeightScale,
)

INT8, UINT8, UINT4 = IntFormat(8), IntFormat(8, signed=False), IntFormat(4, signed=False)
NARROW = IntFormat(8, narrow=True)
TENSOR, OUTPUT, ROW = PerTensor(), PerAxis((0,)), PerAxis((0,))

INT32 = Accumulator(
    bits=32,
    overflow=Overflow.EXACT,
    tree=1,
    k_order=KOrder.ROW_COLUMN_CHANNEL,
    zero_point=ZeroPoint.INSIDE,
    bias=Bias.LAST,
)
"""An int32 register whose sums fit: then order, tree and placements change nothing; other sums are refused."""

BEYOND_INT32 = "sums that do not fit int32: refused"
TORCH = "torch 2.13.0+cpu"
LITERT = "ai-edge-litert 2.3.0"
TORCH_WEIGHTS = (
    QuantSpec(INT8, TENSOR, symmetric=True, rule=TORCH_PER_TENSOR),
    QuantSpec(INT8, OUTPUT, symmetric=True, rule=TORCH_PER_CHANNEL),
)
TORCH_ACTIVATIONS = (QuantSpec(UINT8, TENSOR, rule=TORCH_PER_TENSOR),)
TFLITE_ACTIVATIONS = (QuantSpec(INT8, TENSOR, rule=TFLITE, rounding=Rounding.HALF_AWAY),)
TFLITE_WEIGHTS = (
    QuantSpec(NARROW, TENSOR, symmetric=True, rule=TFLITE, rounding=Rounding.HALF_AWAY),
    QuantSpec(NARROW, OUTPUT, symmetric=True, rule=TFLITE, rounding=Rounding.HALF_AWAY),
)

FBGEMM = Kernel(INT32, FbgemmRequantizer, BiasKind.FLOAT32, WeightScale.STORED, Epilogue.FUSED)
QNNPACK = Kernel(INT32, QnnpackRequantizer, BiasKind.FLOAT32, WeightScale.STORED, Epilogue.SCALE_THEN_BIAS)
ONEDNN_LINEAR = Kernel(
    INT32, OnednnRequantizer, BiasKind.FLOAT32, WeightScale.INVERTED_TWICE_PER_CHANNEL, Epilogue.ONEDNN
)
ONEDNN_CONV = Kernel(INT32, OnednnRequantizer, BiasKind.FLOAT32, WeightScale.STORED, None)
PAIRS = PairAccumulator(Pairing.CHANNELS)

TORCH_FBGEMM = Target(
    name="torch-fbgemm",
    peer=f"{TORCH}, engine fbgemm",
    activations=TORCH_ACTIVATIONS,
    parameters=Parameters.GIVEN,
    weights=TORCH_WEIGHTS,
    outputs=(UINT8,),
    intermediate=FLOAT32,
    linear=FBGEMM,
    conv=replace(FBGEMM, epilogue=None),
    depthwise=replace(FBGEMM, accumulator=PairAccumulator(Pairing.TAPS), epilogue=None),
    matmul=None,
    groups=None,
    unspecified=(
        BEYOND_INT32,
        "weights with zero points",
        "depthwise kernels of 5 x 5 and of three axes",
        "CPUs without VNNI, whose byte products saturate in pairs",
    ),
    proof=Proof(
        Evidence.VERIFIED,
        (
            "tests/peers/test_targets_torch.py",
            "tests/peers/test_requantize_torch.py",
            "tests/peers/test_pair_saturation_torch.py",
        ),
        "codes of quantized::linear and conv2d, depthwise 3 x 3 included; floats of quantized::linear_dynamic",
    ),
)

TORCH_QNNPACK = replace(
    TORCH_FBGEMM,
    name="torch-qnnpack",
    peer=f"{TORCH}, engine qnnpack",
    linear=QNNPACK,
    conv=replace(QNNPACK, epilogue=None),
    depthwise=None,
    unspecified=(BEYOND_INT32, "weights with zero points"),
    proof=Proof(
        Evidence.VERIFIED,
        ("tests/peers/test_targets_torch.py", "tests/peers/test_requantize_torch.py"),
        "codes of quantized::linear and conv2d; floats of quantized::linear_dynamic",
    ),
)

TORCH_ONEDNN = replace(
    TORCH_QNNPACK,
    name="torch-onednn",
    peer=f"{TORCH}, engine onednn, on a CPU with AVX512-VNNI",
    linear=ONEDNN_LINEAR,
    conv=ONEDNN_CONV,
)

TORCH_X86 = replace(
    TORCH_ONEDNN,
    name="torch-x86",
    peer=f"{TORCH}, engine x86 (the default), on a CPU with AVX512-VNNI",
    linear=FBGEMM,
    unspecified=(*TORCH_ONEDNN.unspecified, "which library a convolution goes to on other CPUs"),
)

X86_AVX2 = replace(
    TORCH_ONEDNN,
    name="x86-avx2",
    peer=f"{TORCH}, engine onednn, ONEDNN_MAX_CPU_ISA=AVX2 (pairs saturate to 16 bits)",
    linear=replace(ONEDNN_LINEAR, accumulator=PAIRS, epilogue=None),
    conv=replace(ONEDNN_CONV, accumulator=PAIRS),
    unspecified=(BEYOND_INT32, "weights with zero points", "depthwise convolutions"),
    proof=Proof(
        Evidence.VERIFIED,
        ("tests/peers/test_targets_torch.py", "tests/peers/test_pair_saturation_torch.py"),
        "codes of quantized::linear and conv2d, operands that saturate most pairs among them",
    ),
)

ONNXRUNTIME_KERNEL = Kernel(INT32, OnnxRuntimeRequantizer, BiasKind.INT32, WeightScale.STORED, Epilogue.SCALE_THEN_BIAS)
ONNXRUNTIME = Target(
    name="onnxruntime",
    peer="onnxruntime 1.31.1, CPU: QLinearMatMul, QLinearConv, QGemm, MatMulIntegerToFloat",
    activations=(QuantSpec(UINT8, TENSOR, rule=DIVIDE), QuantSpec(INT8, TENSOR, rule=DIVIDE)),
    parameters=Parameters.GIVEN,
    weights=(
        QuantSpec(INT8, TENSOR, symmetric=True, rule=DIVIDE),
        QuantSpec(INT8, OUTPUT, symmetric=True, rule=DIVIDE),
    ),
    outputs=(UINT8, INT8),
    intermediate=FLOAT32,
    linear=ONNXRUNTIME_KERNEL,
    conv=replace(ONNXRUNTIME_KERNEL, epilogue=None),
    depthwise=None,
    matmul=ONNXRUNTIME_KERNEL,
    groups=None,
    unspecified=(
        BEYOND_INT32,
        "unsigned weights, and weights with zero points",
        "CPUs whose byte products saturate in pairs (x86 without VNNI)",
    ),
    proof=Proof(
        Evidence.VERIFIED,
        (
            "tests/peers/test_targets_onnxruntime.py",
            "tests/peers/test_requantize_onnxruntime.py",
            "tests/peers/test_deployment_onnxruntime.py",
        ),
        "codes of QLinearMatMul, QLinearConv and QGemm (a linear layer with a bias), at every site of two exported "
        "networks too; floats of MatMulIntegerToFloat",
    ),
)

TFLITE_REFERENCE = Target(
    name="tflite-reference",
    peer=f"{LITERT}, reference kernels",
    activations=TFLITE_ACTIVATIONS,
    parameters=Parameters.GIVEN,
    weights=TFLITE_WEIGHTS,
    outputs=(INT8,),
    intermediate=FLOAT32,
    linear=Kernel(INT32, TfliteFullyConnectedRequantizer, BiasKind.INT32, WeightScale.STORED, None),
    conv=Kernel(INT32, GemmlowpRequantizer, BiasKind.INT32, WeightScale.STORED, None),
    depthwise=None,
    matmul=None,
    groups=None,
    unspecified=(BEYOND_INT32, "grouped and depthwise convolutions", "activations fused into an operator"),
    proof=Proof(
        Evidence.VERIFIED,
        ("tests/peers/test_targets_litert.py", "tests/peers/test_litert.py"),
        "codes of FULLY_CONNECTED and CONV_2D",
    ),
)

RUY = Kernel(INT32, RuyRequantizer, BiasKind.INT32, WeightScale.STORED, None)
TFLITE_RUY = replace(
    TFLITE_REFERENCE, name="tflite-ruy", peer=f"{LITERT}, no delegate (ruy), x86", linear=RUY, conv=RUY
)

XNNPACK = Kernel(INT32, XnnpackRequantizer, BiasKind.INT32, WeightScale.STORED, None)
TFLITE_XNNPACK = replace(
    TFLITE_REFERENCE,
    name="tflite-xnnpack",
    peer=f"{LITERT}, default delegate (XNNPACK)",
    linear=XNNPACK,
    conv=XNNPACK,
    unspecified=(
        *TFLITE_REFERENCE.unspecified,
        "multipliers x_scale * w_scale / y_scale from 256 on, which it refuses",
    ),
)

GEMMLOWP_KERNEL = Kernel(INT32, GemmlowpRequantizer, BiasKind.INT32, WeightScale.STORED, None)
GEMMLOWP = Target(
    name="gemmlowp",
    peer="gemmlowp, OutputStageScaleInt32ByFixedPointAndExponent with TensorFlow Lite's QuantizeMultiplier",
    activations=(QuantSpec(UINT8, TENSOR, rule=TFLITE, rounding=Rounding.HALF_AWAY),),
    parameters=Parameters.GIVEN,
    weights=(QuantSpec(UINT8, TENSOR, rule=TFLITE, rounding=Rounding.HALF_AWAY),),
    outputs=(UINT8,),
    intermediate=FLOAT32,
    linear=GEMMLOWP_KERNEL,
    conv=GEMMLOWP_KERNEL,
    depthwise=None,
    matmul=GEMMLOWP_KERNEL,
    groups=None,
    unspecified=(
        BEYOND_INT32,
        "how a convolution is lowered: gemmlowp multiplies matrices",
        "left shifts beyond int32 (multipliers above 1): here they wrap, newer revisions may saturate",
    ),
    proof=Proof(
        Evidence.SOURCE,
        ("google/gemmlowp fixedpoint/fixedpoint.h, internal/output.h",),
        "the same rounding steps as TensorFlow Lite's reference CONV_2D, whose int8 codes are compared in "
        "tests/peers/test_litert.py",
    ),
)

CMSIS_NN = Target(
    name="cmsis-nn",
    peer="CMSIS-NN, int8, default (double) rounding",
    activations=TFLITE_ACTIVATIONS,
    parameters=Parameters.GIVEN,
    weights=TFLITE_WEIGHTS,
    outputs=(INT8,),
    intermediate=FLOAT32,
    linear=GEMMLOWP_KERNEL,
    conv=GEMMLOWP_KERNEL,
    depthwise=None,
    matmul=None,
    groups=None,
    unspecified=(
        BEYOND_INT32,
        "CMSIS_NN_USE_SINGLE_ROUNDING: a target with SingleRoundingRequantizer",
        "the vector (MVE) forms, which were not read",
    ),
    proof=Proof(
        Evidence.SOURCE,
        ("ARM-software/CMSIS-NN Include/arm_nnsupportfunctions.h at bfc54ed, arm_nn_requantize",),
        "arm_nn_doubling_high_mult_no_sat is floor((ab + 2^30) / 2^31), which is gemmlowp's nudged division but for "
        "MIN * MIN; arm_nn_divide_by_power_of_two is RoundingDivideByPOT",
    ),
)

CUDA_INT8_KERNEL = Kernel(INT32, None, BiasKind.FLOAT32, WeightScale.STORED, Epilogue.ROW_THEN_COLUMN)
CUDA_INT8 = Target(
    name="cuda-int8",
    peer="an int8 tensor-core product (int32 sums) with a separate float32 epilogue, as torch._int_mm is used",
    activations=(
        QuantSpec(INT8, ROW, symmetric=True, rule=TORCHAO),
        QuantSpec(INT8, TENSOR, symmetric=True, rule=TORCHAO),
    ),
    parameters=Parameters.GIVEN,
    weights=(
        QuantSpec(INT8, OUTPUT, symmetric=True, rule=TORCHAO),
        QuantSpec(INT8, TENSOR, symmetric=True, rule=TORCHAO),
    ),
    outputs=(),
    intermediate=FLOAT32,
    linear=CUDA_INT8_KERNEL,
    conv=None,
    depthwise=None,
    matmul=CUDA_INT8_KERNEL,
    groups=None,
    unspecified=(
        BEYOND_INT32,
        "fused epilogues: a compiler may contract the last product and the bias into one rounding",
    ),
    proof=Proof(Evidence.SPECIFIED, (), "integer sums are exact on any device; the epilogue is stated here"),
)

CUTLASS_KERNEL = Kernel(INT32, CutlassRequantizer, BiasKind.CODES, WeightScale.STORED, Epilogue.FUSED)
CUTLASS_INT8 = Target(
    name="cutlass-int8",
    peer="CUTLASS, int8 GEMM, LinearCombinationClamp (codes) and LinearCombination (float32)",
    activations=(QuantSpec(INT8, TENSOR, symmetric=True),),
    parameters=Parameters.GIVEN,
    weights=(QuantSpec(INT8, TENSOR, symmetric=True),),
    outputs=(INT8,),
    intermediate=FLOAT32,
    linear=CUTLASS_KERNEL,
    conv=CUTLASS_KERNEL,
    depthwise=None,
    matmul=CUTLASS_KERNEL,
    groups=None,
    unspecified=(
        BEYOND_INT32,
        "how inputs are quantized: CUTLASS takes codes",
        "FastLinearCombinationClamp, which is used for small k",
        "builds without contraction of a * b + c",
    ),
    proof=Proof(
        Evidence.SOURCE,
        (
            "NVIDIA/cutlass include/cutlass/epilogue/thread/linear_combination_clamp.h at 0e13748",
            "NVIDIA/cutlass include/cutlass/epilogue/thread/linear_combination.h at 0e13748",
        ),
        "alpha = f32(f32(x_scale * w_scale) / y_scale) for codes; the multiply-add is taken as fused, nvcc's default",
    ),
)

BLOCKS = (32, 64, 128)
ONNX_MATMULNBITS = Target(
    name="onnx-matmulnbits",
    peer="onnxruntime 1.31.1, CPU: MatMulNBits, 4 bits, accuracy level 4",
    activations=tuple(QuantSpec(INT8, PerGroup(1, size, (0,)), symmetric=True) for size in BLOCKS),
    parameters=Parameters.DYNAMIC_BLOCKS,
    weights=tuple(QuantSpec(UINT4, PerGroup(1, size, (0,))) for size in BLOCKS),
    outputs=(),
    intermediate=FLOAT32,
    linear=Kernel(INT32, None, BiasKind.FLOAT32, WeightScale.STORED, Epilogue.GROUPS),
    conv=None,
    depthwise=None,
    matmul=None,
    groups=GroupRegister(FLOAT32, GroupOrder.ASCENDING),
    unspecified=(
        "the order of the float32 additions among blocks: the peer adds lanes of a vector, this target adds blocks in "
        "ascending order",
        "where the peer subtracts a stored zero point: apart, in float32",
        "blocks of other sizes",
    ),
    proof=Proof(
        Evidence.VERIFIED,
        ("tests/peers/test_targets_onnxruntime.py", "tests/peers/test_matmul_nbits.py"),
        "bit-equal where every product and partial sum is exact in float32; elsewhere within g(2 B + 8) of the sum of "
        "magnitudes for B blocks, g(n) = n u / (1 - n u), u = 2^-24",
    ),
)

W4A16_GROUP128 = Target(
    name="w4a16-group128",
    peer="a 4-bit weight, float16 activation kernel (Marlin, AWQ, GPTQ): its arithmetic, not one of its binaries",
    activations=(),
    parameters=Parameters.NONE,
    weights=(QuantSpec(UINT4, PerGroup(1, 128, (0,)), scale_format=FloatScale(FLOAT16)),),
    outputs=(),
    intermediate=FLOAT16,
    linear=Kernel(FloatAccumulator(FLOAT32), None, BiasKind.FLOAT32, WeightScale.STORED, Epilogue.HALF),
    conv=None,
    depthwise=None,
    matmul=None,
    groups=None,
    unspecified=(
        "the order and the inner rounding of a tensor core's sums: here ascending k, each sum rounded to float32",
        "split-k reductions, in float16 on some machines",
    ),
    proof=Proof(
        Evidence.SPECIFIED,
        (),
        "w16 = f16((q - zero) * scale), products of float16 exact, sums in float32, one rounding to float16",
    ),
)

TARGETS: dict[str, Target] = {
    made.name: made
    for made in (
        TORCH_FBGEMM,
        TORCH_QNNPACK,
        TORCH_ONEDNN,
        TORCH_X86,
        X86_AVX2,
        ONNXRUNTIME,
        ONNX_MATMULNBITS,
        TFLITE_REFERENCE,
        TFLITE_RUY,
        TFLITE_XNNPACK,
        GEMMLOWP,
        CMSIS_NN,
        CUDA_INT8,
        CUTLASS_INT8,
        W4A16_GROUP128,
    )
}
"""Every named machine."""


def target(name: str) -> Target:
    """The named machine.

    Raises:
        BadInput: no such name.
    """
    if name not in TARGETS:
        near = get_close_matches(name, TARGETS, 1, cutoff=0)
        raise BadInput("a target must have a known name", got=repr(name), fix=f"did you mean {near[0]!r}?")
    return TARGETS[name]
