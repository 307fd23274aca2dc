"""What determines a run, and what it ran on: the key of its file, and the attributes inside."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib import metadata
from typing import Any

import llvmlite.binding as llvm

from simulator.correction import Correction
from simulator.instrument.quantized import QuantizedModel
from simulator.threads import get_threads

NUMERICS_VERSION = 1
"""Raised with every change of results; a CHANGELOG heading goes with it."""

TARGET = "int32-float32"
"""The machine emulated: exact int32 accumulation, float32 rescaling (``simulator.arithmetic.contract``)."""


def run_config(quantized: QuantizedModel, correction: Correction, **settings: Any) -> dict[str, Any]:
    """All that determines the bytes of a run's file, as plain JSON values."""
    model = quantized.model
    return {
        "model": f"{model.name}@{model.version}",
        "weights_digest": model.weights_digest,
        "scheme": str(quantized.scheme),
        "ranges": dict(quantized.ranges.source),
        "correction": correction.config(),
        "target": TARGET,
        "numerics_version": NUMERICS_VERSION,
        "threads": get_threads(),
        **settings,
    }


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
