"""Named machines as values, and their operations on numpy arrays. Neither torch nor xarray is loaded."""

from __future__ import annotations

from simulator.targets.custom import format_target, load_target, parse_target
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
from simulator.targets.finish import quantize_bias
from simulator.targets.named import TARGETS, target
from simulator.targets.operands import Outcome, OutputSpec
from simulator.targets.run import (
    activation_parameters,
    conv,
    linear,
    matmul,
    quantize_activation,
    quantize_weight,
)

__all__ = [
    "TARGETS", "BiasKind", "Epilogue", "Evidence", "FloatAccumulator", "Kernel", "Outcome", "OutputSpec", "Parameters",
    "Proof", "Target", "WeightScale", "activation_parameters", "conv", "format_target", "linear", "load_target",
    "matmul", "parse_target", "quantize_activation", "quantize_bias", "quantize_weight", "target",
]  # fmt: skip
