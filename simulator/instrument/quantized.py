"""A network whose every contraction runs in exact integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from samplers.errors import BadInput
from simulator.arithmetic.operands import ScaledFormat
from simulator.arithmetic.quantizer import parameters_from_range
from simulator.arithmetic.weights import PreparedWeight
from simulator.calibration.observers import Ranges
from simulator.instrument import emulated_attention, emulation
from simulator.instrument.attention_parts import Attention
from simulator.instrument.contractions import Contraction, MatMul, Weighted
from simulator.instrument.coverage import Coverage, cover
from simulator.instrument.forward import forward
from simulator.instrument.same_bytes import same_bytes
from simulator.instrument.scheme import PROBABILITY, Scheme
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts, survey
from simulator.models.registry import Model

Watcher = Callable[[SiteKey, Tensor, int], None]
"""Called at each site with its key, its output and the number of clipped operand elements."""


class QuantizedModel:
    """``model`` under ``scheme``, with static activation ranges.

    Weights are quantized and packed once, at the first call that meets them, and again if they change.

    Args:
        model: the network.
        scheme: formats of weights and activations.
        ranges: calibrated minimum and maximum of every run-time operand.
        allow_float: patterns of sites and modules that stay in float (``Allowance``), such as recurrent cells.

    Raises:
        BadInput: ranges of a site or operand are missing, or were calibrated on other weights.
        UncoveredContraction: a contraction that no site covers.
    """

    def __init__(self, model: Model, scheme: Scheme, ranges: Ranges, *, allow_float: tuple[str, ...] = ()) -> None:
        calibrated_on = ranges.source.get("weights_digest", model.weights_digest)
        if calibrated_on != model.weights_digest:
            raise BadInput(
                f"ranges must be calibrated on the model they serve, weights {model.weights_digest[:12]}",
                got=f"weights {calibrated_on[:12]}",
                fix="calibrate with this model",
            )
        self.model, self.scheme, self.ranges = model, scheme, ranges
        self.allow_float = tuple(allow_float)
        self.sites: tuple[SiteFacts, ...] = survey(model, allow_float=self.allow_float)
        self._facts: Mapping[SiteKey, SiteFacts] = {facts.key: facts for facts in self.sites}
        self._formats = {facts.key: self._activation_formats(facts) for facts in self.sites}
        self._weights: dict[SiteKey, tuple[Tensor, PreparedWeight]] = {}

    def __call__(self, x: Tensor, timestep: Tensor, watch: Watcher | None = None, *, audit: bool = True) -> Tensor:
        """The network's output for float32 ``x``; ``watch`` sees each site's output.

        Without ``audit`` only the sequence of sites is checked against the survey's (see ``forward``).

        Raises:
            BadInput: the sites differ from those of the survey.
            UncoveredContraction: a contraction ran outside every site.
        """
        handler = _Emulating(self, watch)
        output = forward(
            self.model.module, handler, x, timestep, call=self.model.call, audit=audit, allow_float=self.allow_float
        )
        if tuple(handler.visited) != tuple(self._facts):
            raise BadInput(
                "a model must run the same sites in every forward pass",
                got=f"{len(handler.visited)} sites, not the {len(self._facts)} of the first pass in their order",
                fix="use a model without data-dependent structure",
            )
        return output

    def coverage(self, x: Tensor, timestep: Tensor) -> Coverage:
        """What one audited pass does to every contraction: bits of weight and activations, or why not.

        Raises:
            UncoveredContraction: a contraction ran outside every site.
        """

        def bits(site: SiteKey) -> str:
            facts = self._facts[site]
            inputs = [f"a{self.formats(site)[role].spec.format.bits}" for role in facts.roles]
            if facts.weight_shape is not None:
                inputs.append(f"w{self.scheme.weight_spec(edge=facts.edge).format.bits}")
            return "integer " + " ".join(inputs)

        return cover(
            self.model.module, x, timestep, handler=lambda site, contraction: self._emulate(site, contraction)[0],
            call=self.model.call, allow_float=self.allow_float, describe=bits,
        )  # fmt: skip

    def formats(self, site: SiteKey) -> Mapping[str, ScaledFormat]:
        """Format, scale and zero point of each run-time operand of a site, by role."""
        return self._formats[site]

    def _emulate(self, site: SiteKey, contraction: Contraction) -> tuple[Tensor, int]:
        formats = self._formats_at(site)
        if isinstance(contraction, MatMul):
            left, right = (formats[role] for role in contraction.roles)
            return emulation.matmul(contraction, left, right)
        return emulation.weighted(contraction, formats["input"], self._prepared(site, contraction))

    def _formats_at(self, site: SiteKey) -> Mapping[str, ScaledFormat]:
        formats = self._formats.get(site)
        if formats is None:
            raise BadInput(
                "a model must run the same sites in every forward pass",
                got=f"{site}, absent from the first pass",
                fix="use a model without data-dependent structure",
            )
        return formats

    def _prepared(self, site: SiteKey, contraction: Weighted) -> PreparedWeight:
        # compared by content: an address may be used again, and changes through .data move no version counter
        known = self._weights.get(site)
        if known is None or not same_bytes(known[0], contraction.weight):
            spec = self.scheme.weight_spec(edge=self._facts[site].edge)
            weight = contraction.weight.detach().clone()
            known = (weight, emulation.prepared(contraction, weight, spec))
            self._weights[site] = known
        return known[1]

    def _activation_formats(self, facts: SiteFacts) -> dict[str, ScaledFormat]:
        spec = self.scheme.activation_spec(edge=facts.edge)
        formats = {}
        for role in facts.roles:
            if role == PROBABILITY:
                formats[role] = ScaledFormat(spec, np.float32(1 / spec.format.qmax), 0)
                continue
            low, high = self.ranges.of(facts.key, role)
            scale, zero_point = parameters_from_range(np.array(low), np.array(high), spec)
            formats[role] = ScaledFormat(spec, np.float32(scale), int(zero_point))
        return formats


class _Emulating:
    """Handler of one forward pass: sites in the order in which they ran, outputs for whoever watches."""

    def __init__(self, quantized: QuantizedModel, watch: Watcher | None) -> None:
        self._quantized, self._watch = quantized, watch
        self.visited: list[SiteKey] = []

    def __call__(self, site: SiteKey, contraction: Contraction, /) -> Tensor:
        output, clipped = self._quantized._emulate(site, contraction)
        self._see(site, output, clipped)
        return output

    def attention(self, scores: SiteKey, mixture: SiteKey, operation: Attention, /) -> Tensor:
        formats_at = self._quantized._formats_at
        kept = None if self._watch is None else operation.empty_scores()
        output, outside_scores, outside_mixture = emulated_attention.attention(
            operation, formats_at(scores), formats_at(mixture), kept
        )
        self._see(scores, kept, outside_scores)
        self._see(mixture, output, outside_mixture)
        return output

    def _see(self, site: SiteKey, output: Tensor | None, clipped: int) -> None:
        self.visited.append(site)
        if self._watch is not None:
            assert output is not None
            self._watch(site, output, clipped)
