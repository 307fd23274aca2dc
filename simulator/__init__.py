"""Computes: the integer engine, instrumented models, and paired runs. Names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.calibration.batches import calibrate_on
    from simulator.calibration.channels import PerChannel, PerChannelGroup
    from simulator.calibration.divergence import KullbackLeibler
    from simulator.calibration.fit import fit_range
    from simulator.calibration.observers import MinMax, MovingAverage
    from simulator.calibration.percentile import Percentile
    from simulator.calibration.ranges import Ranges
    from simulator.calibration.search import LpSearch, PercentileSearch
    from simulator.calibration.steps import StepSet, StepSets
    from simulator.calibration.trajectory import calibrate_ranges
    from simulator.correction import Correction, NoCorrection
    from simulator.instrument.quantized import QuantizedModel
    from simulator.instrument.scheme import Scheme
    from simulator.instrument.survey import survey
    from simulator.models.conditioning import Conditioning
    from simulator.models.loading import load
    from simulator.models.registry import Condition, Model
    from simulator.operand_errors import observe_operands
    from simulator.paired import Arm, run, run_arms
    from simulator.threads import set_threads

_HOME = {
    "Arm": "simulator.paired",
    "Condition": "simulator.models.registry",
    "Conditioning": "simulator.models.conditioning",
    "Correction": "simulator.correction",
    "KullbackLeibler": "simulator.calibration.divergence",
    "LpSearch": "simulator.calibration.search",
    "MinMax": "simulator.calibration.observers",
    "Model": "simulator.models.registry",
    "MovingAverage": "simulator.calibration.observers",
    "NoCorrection": "simulator.correction",
    "PerChannel": "simulator.calibration.channels",
    "PerChannelGroup": "simulator.calibration.channels",
    "Percentile": "simulator.calibration.percentile",
    "PercentileSearch": "simulator.calibration.search",
    "QuantizedModel": "simulator.instrument.quantized",
    "Ranges": "simulator.calibration.ranges",
    "Scheme": "simulator.instrument.scheme",
    "StepSet": "simulator.calibration.steps",
    "StepSets": "simulator.calibration.steps",
    "Rung": "simulator.instrument.rungs",
    "attribute": "simulator.attribution",
    "calibrate_on": "simulator.calibration.batches",
    "calibrate_ranges": "simulator.calibration.trajectory",
    "fit_range": "simulator.calibration.fit",
    "load": "simulator.models.loading",
    "observe_operands": "simulator.operand_errors",
    "one_step": "simulator.single_step",
    "run": "simulator.paired",
    "run_arms": "simulator.paired",
    "set_threads": "simulator.threads",
    "survey": "simulator.instrument.survey",
}

__all__ = [
    "Arm",
    "Condition",
    "Conditioning",
    "Correction",
    "KullbackLeibler",
    "LpSearch",
    "MinMax",
    "Model",
    "MovingAverage",
    "NoCorrection",
    "PerChannel",
    "PerChannelGroup",
    "Percentile",
    "PercentileSearch",
    "QuantizedModel",
    "Ranges",
    "Rung",
    "Scheme",
    "StepSet",
    "StepSets",
    "attribute",
    "calibrate_on",
    "calibrate_ranges",
    "fit_range",
    "load",
    "observe_operands",
    "one_step",
    "run",
    "run_arms",
    "set_threads",
    "survey",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
