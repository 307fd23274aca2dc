"""Computes: the integer engine, instrumented models, and paired runs. Names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplers.lazy import lazily

if TYPE_CHECKING:
    from simulator.attribution import attribute
    from simulator.calibration.batches import calibrate_on
    from simulator.calibration.channel_grouping import even_groups, grouped_ranges
    from simulator.calibration.channels import PerChannel, PerChannelGroup, PerHeadChannel
    from simulator.calibration.divergence import KullbackLeibler
    from simulator.calibration.fit import fit_range
    from simulator.calibration.observers import MinMax, MovingAverage
    from simulator.calibration.percentile import Percentile
    from simulator.calibration.ranges import Ranges
    from simulator.calibration.search import LpSearch, PercentileSearch
    from simulator.calibration.steps import StepSet, StepSets
    from simulator.calibration.trajectory import calibrate_ranges
    from simulator.calibration.weights import weight_ranges
    from simulator.correction import Correction, NoCorrection
    from simulator.instrument.quantized import QuantizedModel
    from simulator.instrument.rungs import Rung
    from simulator.instrument.scheme import Scheme
    from simulator.instrument.survey import survey
    from simulator.models.conditioning import Conditioning
    from simulator.models.loading import load
    from simulator.models.registry import Condition, Model
    from simulator.operand_errors import observe_operands
    from simulator.paired import Arm, run, run_arms
    from simulator.recording import Recording, record_outputs
    from simulator.single_step import one_step
    from simulator.threads import set_threads

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
    "PerHeadChannel",
    "Percentile",
    "PercentileSearch",
    "QuantizedModel",
    "Ranges",
    "Recording",
    "Rung",
    "Scheme",
    "StepSet",
    "StepSets",
    "attribute",
    "calibrate_on",
    "calibrate_ranges",
    "even_groups",
    "fit_range",
    "grouped_ranges",
    "load",
    "observe_operands",
    "one_step",
    "record_outputs",
    "run",
    "run_arms",
    "set_threads",
    "survey",
    "weight_ranges",
]  # fmt: skip

_MODULES = {
    "attribution": ("attribute",),
    "calibration.batches": ("calibrate_on",),
    "calibration.channels": ("PerChannel", "PerChannelGroup", "PerHeadChannel"),
    "calibration.channel_grouping": ("even_groups", "grouped_ranges"),
    "calibration.divergence": ("KullbackLeibler",),
    "calibration.fit": ("fit_range",),
    "calibration.observers": ("MinMax", "MovingAverage"),
    "calibration.percentile": ("Percentile",),
    "calibration.ranges": ("Ranges",),
    "calibration.search": ("LpSearch", "PercentileSearch"),
    "calibration.steps": ("StepSet", "StepSets"),
    "calibration.trajectory": ("calibrate_ranges",),
    "calibration.weights": ("weight_ranges",),
    "correction": ("Correction", "NoCorrection"),
    "instrument.quantized": ("QuantizedModel",),
    "instrument.rungs": ("Rung",),
    "instrument.scheme": ("Scheme",),
    "instrument.survey": ("survey",),
    "models.conditioning": ("Conditioning",),
    "models.loading": ("load",),
    "models.registry": ("Condition", "Model"),
    "operand_errors": ("observe_operands",),
    "paired": ("Arm", "run", "run_arms"),
    "recording": ("Recording", "record_outputs"),
    "single_step": ("one_step",),
    "threads": ("set_threads",),
}

__getattr__, __dir__ = lazily(__name__, _MODULES)
