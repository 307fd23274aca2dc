"""A module or model calibrated with its outputs, under w8a8, ready for export."""

from __future__ import annotations

import torch
from torch import nn
from torch_modules import Ignoring, as_model

from samplers.ddim import DDIM
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.models.registry import Model

SCHEME = Scheme.parse("w8a8")


def deployed(model: Model, *, steps: int = 3, samples: int = 8, allow_float: tuple[str, ...] = ()) -> QuantizedModel:
    """The model under w8a8, calibrated along a short trajectory."""
    sampler = DDIM(model.schedule, steps)
    ranges = calibrate_ranges(model, sampler, samples=samples, outputs=True, allow_float=allow_float)
    return QuantizedModel(model, SCHEME, ranges, allow_float=allow_float)


def deployed_module(body: nn.Module, shape: tuple[int, ...], **options) -> QuantizedModel:
    """A module of one input, which gives its input's shape, with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for parameter in body.parameters():
            nn.init.normal_(parameter, std=0.3)
    return deployed(as_model(Ignoring(body), shape), **options)
