"""Computes: the integer engine, instrumented models, and paired runs. Names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.calibration.observers import Ranges
    from simulator.calibration.trajectory import calibrate_ranges
    from simulator.correction import Correction, NoCorrection
    from simulator.instrument.quantized import QuantizedModel
    from simulator.instrument.scheme import Scheme
    from simulator.instrument.survey import survey
    from simulator.models.conditioning import Conditioning
    from simulator.models.loading import load
    from simulator.models.registry import Condition, Model
    from simulator.paired import Arm, run, run_arms
    from simulator.threads import set_threads

_HOME = {
    "Arm": "simulator.paired",
    "Condition": "simulator.models.registry",
    "Conditioning": "simulator.models.conditioning",
    "Correction": "simulator.correction",
    "Model": "simulator.models.registry",
    "NoCorrection": "simulator.correction",
    "QuantizedModel": "simulator.instrument.quantized",
    "Ranges": "simulator.calibration.observers",
    "Scheme": "simulator.instrument.scheme",
    "calibrate_ranges": "simulator.calibration.trajectory",
    "load": "simulator.models.loading",
    "run": "simulator.paired",
    "run_arms": "simulator.paired",
    "set_threads": "simulator.threads",
    "survey": "simulator.instrument.survey",
}

__all__ = [
    "Arm", "Condition", "Conditioning", "Correction", "Model", "NoCorrection", "QuantizedModel", "Ranges", "Scheme",
    "calibrate_ranges", "load", "run", "run_arms", "set_threads", "survey",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
