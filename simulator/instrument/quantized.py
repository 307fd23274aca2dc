"""A network whose every contraction runs in the arithmetic of a scheme."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from samplers.errors import BadInput
from simulator.arithmetic.operands import ScaledFormat
from simulator.calibration.ranges import Ranges
from simulator.instrument.calibrated import calibrated
from simulator.instrument.contractions import Contraction, MatMul, Weighted
from simulator.instrument.coverage import Coverage, Done, cover
from simulator.instrument.forward import forward
from simulator.instrument.intermediates import rounded, rounding
from simulator.instrument.machines.machine import Emulated, Machine
from simulator.instrument.plan import Plan
from simulator.instrument.rungs import Rung, machine
from simulator.instrument.scheme.scheme import Scheme
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts, survey
from simulator.instrument.treatment import Treatment
from simulator.models.registry import Model

Watcher = Callable[[SiteKey, Emulated], None]
"""Called at each quantized site with its key and what it gave."""


class QuantizedModel:
    """``model`` under ``scheme``.

    Weights are quantized and packed once, at the first call that meets them, and again if they change.

    Args:
        model: the network.
        scheme: what each site gets.
        ranges: calibrated bounds of every run-time operand with a static range, and of every requantized output.
        allow_float: patterns of sites and modules that stay in float (``Allowance``), such as recurrent cells.
        rung: how much of the scheme is simulated; all of it by default.

    Raises:
        BadInput: ranges of a site or operand are missing, or were calibrated on other weights; a pattern of the scheme
            names no site, or its target lacks what it asks for.
        UncoveredContraction: a contraction that no site covers.
    """

    def __init__(
        self,
        model: Model,
        scheme: Scheme,
        ranges: Ranges,
        *,
        allow_float: tuple[str, ...] = (),
        rung: Rung = Rung.COMPLETE,
    ) -> None:
        calibrated_on = ranges.source.get("weights_digest", model.weights_digest)
        if calibrated_on != model.weights_digest:
            raise BadInput(
                f"ranges must be calibrated on the model they serve, weights {model.weights_digest[:12]}",
                got=f"weights {calibrated_on[:12]}",
                fix="calibrate with this model",
            )
        self.model, self.scheme, self.ranges, self.rung = model, scheme, ranges, rung
        self.allow_float = tuple(allow_float)
        self.sites: tuple[SiteFacts, ...] = survey(model, allow_float=self.allow_float)
        self.plan = Plan(scheme, self.sites)
        self._facts: Mapping[SiteKey, SiteFacts] = {facts.key: facts for facts in self.sites}
        self._machines: dict[tuple[SiteKey, str], dict[Treatment, Machine | None]] = {}
        self._weights: dict[tuple[SiteKey, Hashable], tuple[Tensor, Any]] = {}
        self.float_format = scheme.float_format if rung is Rung.COMPLETE else Scheme().float_format
        if not scheme.has_steps and len(ranges.steps.sets) == 1:
            for facts in self.sites:  # what is missing shows before the first step
                self.machine(facts.key)

    def __call__(
        self, x: Tensor, timestep: Tensor, watch: Watcher | None = None, *, step: int | None = None, audit: bool = True
    ) -> Tensor:
        """The network's output for float32 ``x``.

        Args:
            x: samples.
            timestep: one for each.
            watch: sees what each site gave.
            step: the sampler's loop index, for schemes and ranges that depend on it.
            audit: stop at contractions outside sites; without it only the sequence of sites is checked against the
                survey's (see ``forward``).

        Raises:
            BadInput: the sites differ from those of the survey, or no step is given where one is needed.
            UncoveredContraction: a contraction ran outside every site.
        """
        visited: list[SiteKey] = []

        def handle(site: SiteKey, contraction: Contraction) -> Tensor:
            visited.append(site)
            found = self.emulate(site, contraction, step)
            if watch is not None:
                watch(site, found)
            return found.output

        with rounding(self.float_format):
            output = forward(
                self.model.module, handle, rounded(x, self.float_format), timestep, call=self.model.call, audit=audit,
                allow_float=self.allow_float,
            )  # fmt: skip
        if tuple(visited) != tuple(self._facts):
            raise BadInput(
                "a model must run the same sites in every forward pass",
                got=f"{len(visited)} sites, not the {len(self._facts)} of the first pass in their order",
                fix="use a model without data-dependent structure",
            )
        return output

    def coverage(self, x: Tensor, timestep: Tensor, *, step: int | None = None) -> Coverage:
        """What one audited pass does to every contraction: bits of weight and activations, or why not.

        Raises:
            UncoveredContraction: a contraction ran outside every site.
        """

        def describe(site: SiteKey) -> tuple[Done, str]:
            treatment = self.plan.at(site, step)
            return Done.FLOAT if treatment.in_float else Done.HANDLED, treatment.describe()

        return cover(
            self.model.module, x, timestep, handler=lambda site, c: self.emulate(site, c, step).output,
            call=self.model.call, allow_float=self.allow_float, describe=describe,
        )  # fmt: skip

    def emulate(self, site: SiteKey, contraction: Contraction, step: int | None = None) -> Emulated:
        """One site's contraction of given operands, in the site's arithmetic.

        Raises:
            BadInput: a site that the survey did not meet.
        """
        if site not in self._facts:
            raise BadInput(
                "a model must run the same sites in every forward pass",
                got=f"{site}, absent from the first pass",
                fix="use a model without data-dependent structure",
            )
        runs = self.machine(site, step)
        if runs is None:
            found = Emulated(contraction.float())
        else:
            weight = None if isinstance(contraction, MatMul) else self._prepared(site, runs, contraction)
            found = runs(contraction, weight)
        if self.float_format == Scheme().float_format:
            return found
        return Emulated(rounded(found.output, self.float_format), found.clipped, found.overflowed, found.saturated)

    def machine(self, site: SiteKey, step: int | None = None) -> Machine | None:
        """What computes the site; None where it stays in float.

        Raises:
            BadInput: missing ranges, or no step where one is needed.
        """
        treatment = self.plan.at(site, step)
        served = self.ranges.steps.serving(step)
        known = self._machines.setdefault((site, served), {})
        if treatment not in known:
            known[treatment] = None
            if not treatment.in_float:
                parameters = calibrated(treatment, site, self.ranges, step)
                known[treatment] = machine(treatment, site.operation, parameters, self.rung)
        return known[treatment]

    def formats(self, site: SiteKey, step: int | None = None) -> Mapping[str, ScaledFormat]:
        """Format, scale and zero point of each static run-time operand of a site, by role.

        Raises:
            BadInput: codes wider than 8 bits, as :class:`ScaledFormat`.
        """
        treatment = self.plan.at(site, step)
        parameters = calibrated(treatment, site, self.ranges, step)
        return {
            role: ScaledFormat(operand.spec, parameters[role].scale, parameters[role].zero_point)
            for role, operand in treatment.operands.items()
            if role in parameters
        }

    def _prepared(self, site: SiteKey, runs: Machine, contraction: Weighted) -> Any:
        # compared by content: an address may be used again, and changes through .data move no version counter
        known = self._weights.get((site, runs.weight_key))
        if known is None or not torch.equal(known[0], contraction.weight):
            weight = contraction.weight.detach().clone()
            known = self._weights[site, runs.weight_key] = (weight, runs.prepare(contraction, weight))
        return known[1]
