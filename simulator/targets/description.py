"""What a target is: a whole machine, from the codes that enter an operation to what leaves it, as one value.

Notation: ``acc`` is the integer sum of an operation, ``f32`` rounds to float32, ``f16`` to float16, ties to even.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator
from simulator.arithmetic.float_formats import FLOAT16, FLOAT32, FloatFormat
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerAxis, PerGroup, PerTensor
from simulator.arithmetic.group_sums import GroupRegister
from simulator.arithmetic.pair_accumulator import PairAccumulator
from simulator.arithmetic.quantizer import QuantSpec
from simulator.arithmetic.requantize import CutlassRequantizer
from simulator.arithmetic.requantize.scaled import Scaled


class Evidence(Enum):
    """How it is known that a target computes what its peer does. Only VERIFIED may be called bit-exact."""

    VERIFIED = "verified"
    """Codes or floats were compared with the peer's own operators by a test of this repository."""
    SOURCE = "source"
    """The formulas were read in the peer's source; nothing was run."""
    SPECIFIED = "specified"
    """The target is its own specification."""


@dataclass(frozen=True)
class Proof:
    """Why to believe a target.

    Args:
        evidence: the kind.
        where: test files from the repository's root (VERIFIED), or source files with their revision (SOURCE).
        scope: what was compared, and what equality was found; for the other kinds, what was read or is stated.

    Raises:
        BadInput: nothing named, or no scope.
    """

    evidence: Evidence
    where: tuple[str, ...]
    scope: str

    def __post_init__(self) -> None:
        if not self.scope or (self.evidence is not Evidence.SPECIFIED and not self.where):
            raise BadInput(
                "a proof names its scope, and test files or sources unless it is SPECIFIED",
                got=f"{self.evidence.name} with {len(self.where)} files",
                fix="name the files",
            )


class BiasKind(Enum):
    """What bias a requantizer takes. The float epilogue takes float32 whatever this is."""

    FLOAT32 = "float32 in real units"
    INT32 = "int32 in units of x_scale * w_scale; quantize_bias makes it by rint(b / (x_scale * w_scale))"
    CODES = "codes of the output format in units of y_scale, added as float32 (C with beta = 1)"


class Epilogue(Enum):
    """From the sum to a float where there is no output spec; the value is the formula, ``b`` the float32 bias."""

    SCALE_THEN_BIAS = "f32(f32(f32(acc) * f32(x_scale * w_scale)) + b)"
    FUSED = "f32(f32(acc) * f32(x_scale * w_scale) + b), rounded once"
    ROW_THEN_COLUMN = "f32(f32(f32(f32(acc) * x_scale) * w_scale) + b)"
    ONEDNN = "f32(f32(f32(f32(acc) * x) * w) + b), x = f32(1 / f32(1 / x_scale)), w = f32(1 / f32(1 / w_scale))"
    GROUPS = "p_g = R(f32(acc_g) * f32(x_scale_g * w_scale_g)), added by the group register R, then R(y + b)"
    HALF = "f16(f32(sum + b))"


class WeightScale(Enum):
    """Which weight scale the requantizer sees; the value is the formula."""

    STORED = "w_scale"
    INVERTED_TWICE_PER_CHANNEL = "f32(1 / f32(1 / w_scale)) where the scale is per channel, else w_scale"


class Parameters(Enum):
    """Where scale and zero point of an activation come from."""

    GIVEN = "given: calibrated before"
    DYNAMIC_BLOCKS = "from each row and block of the weight's size: amax / 127 (ONNX Runtime's MatMulNBits, level 4)"
    NONE = "none: activations stay floats"


@dataclass(frozen=True)
class FloatAccumulator:
    """A register that adds exact products in ascending k, each sum rounded to ``format``, ties to even; it starts at 0.

    Raises:
        BadInput: a format other than FLOAT32.
    """

    format: FloatFormat = FLOAT32

    def __post_init__(self) -> None:
        if self.format != FLOAT32:
            raise BadInput("a float accumulator holds float32", got=self.format, fix="use FLOAT32")


AnyRequantizer = type[Scaled] | type[CutlassRequantizer]


@dataclass(frozen=True)
class Kernel:
    """How a machine computes one operation.

    Args:
        accumulator: register of the sum.
        requantizer: class that turns int32 sums into codes, None where the machine has no such output.
        bias: what bias the requantizer takes.
        weight_scale: which weight scale the requantizer sees.
        epilogue: formula of the float output, None where the machine has none.

    Raises:
        BadInput: neither output, a float accumulator with a requantizer or another epilogue than HALF, or a bias of
            another kind than the requantizer's.
    """

    accumulator: Accumulator | PairAccumulator | FloatAccumulator
    requantizer: AnyRequantizer | None
    bias: BiasKind
    weight_scale: WeightScale
    epilogue: Epilogue | None

    def __post_init__(self) -> None:
        if self.requantizer is None and self.epilogue is None:
            raise BadInput("a kernel needs a requantizer or an epilogue", got="neither", fix="name one")
        floats = isinstance(self.accumulator, FloatAccumulator)
        if (floats and self.requantizer) or floats is not (self.epilogue is Epilogue.HALF):
            raise BadInput(
                "a float accumulator goes with Epilogue.HALF and no requantizer, and only it does",
                got=f"{type(self.accumulator).__name__}, {self.epilogue}",
                fix="make them agree",
            )
        if self.requantizer is not None and self.bias is not bias_of(self.requantizer):
            raise BadInput(
                f"{self.requantizer.__name__} takes {bias_of(self.requantizer)}", got=self.bias, fix="name that kind"
            )


def bias_of(requantizer: AnyRequantizer) -> BiasKind:
    """What bias a requantizer's formula takes."""
    if issubclass(requantizer, CutlassRequantizer):
        return BiasKind.CODES
    return BiasKind.INT32 if requantizer.BIAS.__name__ == "int32" else BiasKind.FLOAT32


@dataclass(frozen=True)
class Target:
    """A machine. No field has a default: a target states all of them.

    Granularities are those of a matrix (rows, depth) or (outputs, depth), ``PerAxis((0,))`` being one scale per row or
    output; a convolution's weight (outputs, channels, kernel...) takes the same value.

    Args:
        name: key of ``TARGETS``.
        peer: what it reproduces, with its version.
        activations: what the left operand may be, the first by default; empty where activations stay floats.
        parameters: where an activation's scale and zero point come from.
        weights: what the right operand may be, the first by default.
        outputs: formats that requantized codes may have; empty where no kernel has a requantizer.
        intermediate: float format between operations where nothing is requantized.
        linear: kernel of a matrix product with a weight, None where the machine has none.
        conv: kernel of a convolution.
        depthwise: kernel of a 3 x 3 convolution with groups = channels = outputs, a multiple of 8, padding 1, stride 1
            or 2 on both axes and no dilation, where the machine has one of its own; None: that of ``conv``.
        matmul: kernel of a product of two run-time matrices (both activations).
        groups: register that group sums of weights with scales along k are added in, None where there are no groups.
        unspecified: what the target leaves open, or what of the peer it does not reproduce.
        proof: the evidence.

    Raises:
        BadInput: an empty name or peer, no operation or no weight, requantizers without outputs, another granularity,
            or groups along k with anything but a linear layer of float outputs.
    """

    name: str
    peer: str
    activations: tuple[QuantSpec, ...]
    parameters: Parameters
    weights: tuple[QuantSpec, ...]
    outputs: tuple[IntFormat, ...]
    intermediate: FloatFormat
    linear: Kernel | None
    conv: Kernel | None
    depthwise: Kernel | None
    matmul: Kernel | None
    groups: GroupRegister | None
    unspecified: tuple[str, ...]
    proof: Proof

    def __post_init__(self) -> None:
        if not self.name or not self.peer:
            raise BadInput("a target has a name and a peer", got=f"{self.name!r}, {self.peer!r}", fix="name both")
        if not self.weights or not any(self.kernels.values()):
            raise BadInput("a target has weights and an operation", got=self.name, fix="state at least one of each")
        if self.depthwise is not None and self.conv is None:
            raise BadInput("a depthwise kernel stands beside one for conv", got="none", fix="state conv")
        floats = any(isinstance(k.accumulator, FloatAccumulator) for k in self.kernels.values() if k)
        if not (floats is (not self.activations) is (self.parameters is Parameters.NONE)):
            raise BadInput(
                "activations are empty, and their parameters NONE, exactly where sums are floats",
                got=f"{len(self.activations)} activations, {self.parameters}",
                fix="make them agree",
            )
        if self.intermediate not in (FLOAT32, FLOAT16) or (floats is not (self.intermediate == FLOAT16)):
            raise BadInput(
                "integer machines hand on float32, float machines float16", got=self.intermediate, fix="state that"
            )
        if any(k.requantizer for k in self.kernels.values() if k) is not bool(self.outputs):
            raise BadInput(
                "outputs are stated exactly where a kernel has a requantizer",
                got=f"{len(self.outputs)} outputs",
                fix="make them agree",
            )
        for spec in (*self.activations, *self.weights):
            size = spec.granularity.group_size(1)
            if spec.granularity not in (PerTensor(), PerAxis((0,)), PerGroup(1, size or 1, (0,))):
                raise BadInput(
                    "a target's scales are PerTensor(), PerAxis((0,)) or PerGroup(1, size, (0,))",
                    got=spec.granularity,
                    fix="use one of them",
                )
        if not floats:
            self._require_groups()

    def _require_groups(self) -> None:
        """Groups along k are all or nothing: one formula serves a kernel."""
        wanted = self.groups is not None
        grouped = {spec.granularity.group_size(1) is not None for spec in self.weights}
        rows = {spec.granularity.group_size(1) is not None for spec in self.activations}
        kernels = [kernel for kernel in self.kernels.values() if kernel]
        epilogues = {kernel.epilogue is Epilogue.GROUPS for kernel in kernels}
        alone = kernels == [self.linear] and not self.outputs
        if grouped != {wanted} or epilogues != {wanted} or (alone < wanted) or (True in rows) > wanted:
            raise BadInput(
                "with a group register all weights have groups along k, linear is the only operation, its epilogue is "
                "GROUPS, and nothing is requantized; without one there are none of these",
                got=f"groups={self.groups}",
                fix="state one machine or the other",
            )

    @property
    def kernels(self) -> dict[str, Kernel | None]:
        """Kernel of each operation."""
        return {"linear": self.linear, "conv": self.conv, "depthwise": self.depthwise, "matmul": self.matmul}

    @property
    def evidence(self) -> Evidence:
        """The kind of its proof."""
        return self.proof.evidence

    def __str__(self) -> str:
        return self.name
