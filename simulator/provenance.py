"""What determines a run, and what it ran on: the key of its file, and the attributes inside."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm
import torch
from torch import nn

from simulator.correction import Correction
from simulator.instrument.rungs import Rung
from simulator.models.conditioning import Conditioning, conditioning_config
from simulator.models.registry import Model
from simulator.threads import get_threads

if TYPE_CHECKING:
    from simulator.instrument.quantized import QuantizedModel

NUMERICS_VERSION = 2
"""Raised with every change of results; a CHANGELOG heading goes with it."""

TARGET = "int32-float32"
"""The machine emulated: exact int32 accumulation, float32 rescaling (``simulator.arithmetic.contract``)."""


def run_config(
    quantized: QuantizedModel, correction: Correction, conditioning: Conditioning | None = None, **settings: Any
) -> dict[str, Any]:
    """All that determines the bytes of a run's file, as plain JSON values."""
    # each named only where it says something: keys of plain runs stay as they were
    allowed = {"allow_float": list(quantized.allow_float)} if quantized.allow_float else {}
    rung = {"rung": quantized.rung.value} if quantized.rung is not Rung.COMPLETE else {}
    scheme = quantized.scheme
    return {
        **model_config(quantized.model),
        **allowed,
        **rung,
        **conditioning_config(conditioning),
        **({} if scheme.is_short else {"scheme_config": scheme.config()}),
        "scheme": str(scheme),
        "ranges": dict(quantized.ranges.source),
        "correction": correction.config(),
        "target": TARGET if scheme.target is None else scheme.target.name,
        **settings,
    }


def model_config(model: Model) -> dict[str, Any]:
    """What determines the bits of a model's float operations here: weights, memory format, threads, and our version."""
    # named only where there is one: keys of models without a decoder stay as they were
    decoder = {} if model.decoder is None else {"decoder": model.decoder.config()}
    return {
        "model": f"{model.name}@{model.version}",
        "weights_digest": model.weights_digest,
        **decoder,
        "memory_format": memory_format(model.module),
        "threads": get_threads(),
        "numerics_version": NUMERICS_VERSION,
    }


def memory_format(module: nn.Module) -> str:
    """``channels_last`` if every convolution weight that can tell is laid out so, ``contiguous`` if none is."""
    telling = [p for p in module.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] * p.shape[3] > 1]
    last = [p.is_contiguous(memory_format=torch.channels_last) for p in telling]
    return "mixed" if any(last) and not all(last) else "channels_last" if any(last) else "contiguous"


def canonical(config: dict[str, Any]) -> str:
    """The one spelling of a configuration: JSON with sorted keys and no spaces."""
    return json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)


def run_key(config: dict[str, Any]) -> str:
    """SHA-256 of the canonical configuration, in hexadecimal."""
    return hashlib.sha256(canonical(config).encode()).hexdigest()


def environment() -> dict[str, str]:
    """Versions and processor: facts of a run that do not enter its key."""
    packages = ("qnoise", "numpy", "numba", "torch", "scipy", "xarray", "h5netcdf")
    versions = {f"version_{name}": _version(name) for name in packages}
    return {**versions, "version_python": platform.python_version(), "cpu": llvm.get_host_cpu_name()}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
