"""RepQ's re-scaling: one scale per tensor after a norm that quantizes each channel as well as a scale of its own.

With scale s_j and zero point z_j of each channel: ``s~ = mean s``, ``z~ = mean z``, ``r = s / s~``,
``d = min / r - min~`` (min = -z s, min~ = -z~ s~, hence d = s~ (z~ - z)); the norm gives ``X / r - d``, weights become
``W r`` and biases ``b + (W r) d``. Each channel's range then maps onto the common one, code by code.

Source: RepQ-ViT (Li et al. 2023, arXiv:2212.08254), section 3.2. Deviation: z~ is rounded to an integer, which the
engine's zero points are; the released code keeps the fractional mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from samplers.errors import BadInput
from samplers.validation import require_int
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.quantizer import QuantSpec, parameters_from_range
from simulator.calibration.balancing.families import graph_of
from simulator.calibration.balancing.folding import check_graph, fold, reader
from simulator.calibration.balancing.graph import AdaptiveNorm, AffineNorm, Graph, Input
from simulator.calibration.parameters import bounds_of
from simulator.calibration.ranges import Bounds, Ranges
from simulator.instrument.sites import SiteKey
from simulator.models.derived import derive
from simulator.models.registry import Model


@dataclass(frozen=True)
class LayerScale:
    """One input's common quantizer, and what made it so.

    Attributes:
        scale: s~.
        zero_point: z~.
        ratio: r, float64 (channels,); 1 where a channel is always 0.
        offset: d, float64 (channels,); 0 there.
        bounds: low and high from which the engine makes this scale and zero point.
    """

    scale: np.float32
    zero_point: int
    ratio: np.ndarray
    offset: np.ndarray
    bounds: Bounds = field(compare=False)


@dataclass(frozen=True)
class Rescaled:
    """A network whose norms give all channels one range.

    Attributes:
        model: the network; its sites have the names they had.
        bits: of the quantizer.
        scales: by the path of each input's first reader.
        sites: the sites that read each of these inputs.
    """

    model: Model
    bits: int
    scales: Mapping[str, LayerScale]
    sites: Mapping[str, tuple[SiteKey, ...]]

    def over(self, ranges: Ranges) -> Ranges:
        """``ranges``, calibrated on this model, with the common bounds at the rescaled inputs, at every step."""
        changes = {
            (site, "input", s.name): self.scales[name].bounds
            for name, sites in self.sites.items() for site in sites for s in ranges.steps.sets
        }  # fmt: skip
        source: dict[str, Any] = {**ranges.source, "layer_scales": {"bits": self.bits, "inputs": sorted(self.scales)}}
        return replace(ranges, bounds={**ranges.bounds, **changes}, source=source)


def rescale_norms(model: Model, ranges: Ranges, bits: int = 8, *, graph: Graph | None = None) -> Rescaled:
    """Fold each channel's scale and zero point into the norm before it, so that one scale serves all channels.

    Args:
        model: the network.
        ranges: of this model, ``PerChannel()``, one set for all steps.
        bits: of the activations, 2 to 16; the common scale is that of these bits.
        graph: which layers; by default what the network's family knows. Only inputs that come from a norm are used.

    Raises:
        BadInput: ranges of another model or not per channel, a network of an unknown family, no input after a norm, or
            one that a convolution reads.
    """
    if ranges.source.get("weights_digest", model.weights_digest) != model.weights_digest:
        raise BadInput("ranges must be those of the model", got="ranges of other weights", fix="calibrate this model")
    spec = QuantSpec(IntFormat(require_int("bits", bits, 2), signed=False))
    graph = graph_of(model) if graph is None else graph
    check_graph(model.module, graph)
    inputs = [found for found in graph.inputs if isinstance(found.source, AdaptiveNorm | AffineNorm)]
    if not inputs:
        raise BadInput(
            "re-scaling needs layers that read a norm", got=f"none in {type(model.module).__name__}", fix="use a DiT"
        )
    sites, scales = {}, {}
    for found in inputs:
        if any(not isinstance(reader(model.module, path), nn.Linear) for path in found.readers):
            raise BadInput("an offset needs linear readers", got=f"a convolution at {found.name}", fix="leave it out")
        sites[found.name] = tuple(s for s, role, _ in ranges.bounds if role == "input" and s.module in found.readers)
        scales[found.name] = _common(*_bounds(ranges, found, sites[found.name]), spec)

    def change(module: nn.Module) -> None:
        for found in inputs:
            fold(module, found, scales[found.name].ratio, scales[found.name].offset)

    return Rescaled(derive(model, change, f"repq{bits}"), bits, scales, sites)


def _bounds(ranges: Ranges, found: Input, sites: tuple[SiteKey, ...]) -> Bounds:
    """Each channel's bounds over all readers of a tensor."""
    known = [ranges.of(site, "input") for site in sites]
    if not known or any(low.ndim == 0 for low, _ in known):
        raise BadInput(
            "re-scaling needs ranges per channel, for all steps", got=f"none at {found.name}", fix="use PerChannel()"
        )
    return np.min([low.ravel() for low, _ in known], axis=0), np.max([high.ravel() for _, high in known], axis=0)


def _common(low: np.ndarray, high: np.ndarray, spec: QuantSpec) -> LayerScale:
    scale, zero = parameters_from_range(low, high, spec)
    lives = (low < 0) | (high > 0)
    if not lives.any():
        raise BadInput("a tensor must not be 0 throughout", got="no channel that is not", fix="check the model")
    common = np.float32(scale[lives].mean(dtype=np.float64))
    middle = int(np.rint(zero[lives].mean()))
    ratio = np.where(lives, scale / np.float64(common), 1.0)
    offset = np.where(lives, np.float64(common) * (middle - zero), 0.0)
    return LayerScale(common, middle, ratio, offset, bounds_of(np.asarray(common), np.asarray(middle), spec))
