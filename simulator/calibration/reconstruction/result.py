"""What reconstruction gives: a network whose weights lie on their grids, with the ranges that say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from simulator.arithmetic.quantizer import Quantized
from simulator.calibration.parameters import bounds_of
from simulator.calibration.ranges import WEIGHT, Bounds, Ranges
from simulator.calibration.reconstruction.learning import UnitLog
from simulator.calibration.reconstruction.rounded_network import RoundedNetwork
from simulator.calibration.reconstruction.scales import ScaleModel, learned_bounds
from simulator.calibration.steps import ALL_STEPS
from simulator.instrument.contractions import PROBABILITY
from simulator.instrument.scheme.settings import ActivationRange
from simulator.instrument.sites import SiteKey
from simulator.instrument.storage import Stored
from simulator.models.derived import derive
from simulator.models.registry import Model


@dataclass(frozen=True)
class Reconstructed:
    """A reconstructed network.

    Attributes:
        model: derived; every reconstructed weight is ``(code - zero_point) scale``.
        ranges: for ``QuantizedModel(model, scheme, ranges)``: those of the activations, learned or as calibrated, and
            of each weight, under role "weight" for all steps, the bounds that give its scale and zero point exactly.
        codes: of each weight, outputs first (a transposed convolution's too).
        logs: of every unit, roundings first, then scales.
        seconds: by phase and unit; no part of what is equal for equal seeds.
    """

    model: Model
    ranges: Ranges
    codes: Mapping[SiteKey, Quantized]
    logs: tuple[UnitLog, ...]
    seconds: Mapping[str, float] = field(compare=False)

    @property
    def diverged(self) -> bool:
        """Whether a unit diverged; it then has its nearest roundings, or its calibrated scales."""
        return any(log.diverged for log in self.logs)


def assembled(
    model: Model, network: RoundedNetwork, codes: Mapping[Stored, Tensor], ranges: Ranges, scales: ScaleModel | None,
    method: str, config: dict[str, Any], logs: tuple[UnitLog, ...], seconds: Mapping[str, float],
) -> Reconstructed:  # fmt: skip
    """Put decided codes and learned scales into a model and ranges."""

    def change(module: nn.Module) -> None:
        state = module.state_dict()
        for stored, values in network.values.items():
            memory = state[stored.memory]
            view = memory.as_strided(stored.shape, stored.stride, memory.storage_offset() + stored.offset)
            view.copy_(values)

    with torch.no_grad():
        derived = derive(model, change, method)
    found = {
        site: network.grids[stored].quantized(codes[stored]) for site, stored in network.stored.items()
        if stored in codes
    }  # fmt: skip
    weights = {site: bounds_of(q.scale, q.zero_point.astype(float), q.spec) for site, q in found.items()}
    learned = ranges if scales is None else _learned(network, ranges, scales)
    source = {
        **learned.source, "model": f"{derived.name}@{derived.version}", "weights_digest": derived.weights_digest,
        "reconstruction": config,
    }  # fmt: skip
    bounds = {**learned.bounds, **{(site, WEIGHT, ALL_STEPS.sets[0].name): pair for site, pair in weights.items()}}
    return Reconstructed(derived, Ranges(bounds, source, learned.steps), found, logs, dict(seconds))


def _learned(network: RoundedNetwork, ranges: Ranges, scales: ScaleModel) -> Ranges:
    """Ranges in the step sets of the scales; bounds that are not learned are repeated in each set."""
    steps = scales.steps(ranges.steps)
    bounds: dict[tuple[SiteKey, str, str], Bounds] = {}
    for site, role in dict.fromkeys((site, role) for site, role, _ in ranges.bounds):
        if role == WEIGHT:
            continue
        operand = network.treatments[site].operands.get(role) if site in network.treatments else None
        fixed = operand is None or operand.range is not ActivationRange.STATIC or (site, role) not in network.scales
        for one in steps.sets:
            first = None if one.serves is None else one.serves[0]
            if fixed or role == PROBABILITY:
                bounds[site, role, one.name] = ranges.of(site, role, first)
            else:
                assert operand is not None
                bounds[site, role, one.name] = learned_bounds(network.scales[site, role], operand.spec, one)
    return Ranges(bounds, ranges.source, steps)
