"""A network whose every contraction runs in the arithmetic of a scheme."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from samplers.errors import BadInput
from simulator.arithmetic.float_formats import FLOAT32, FloatFormat
from simulator.arithmetic.operands import ScaledFormat
from simulator.calibration.ranges import Ranges
from simulator.instrument.calibrated import calibrated
from simulator.instrument.contractions import Contraction, MatMul, Weighted
from simulator.instrument.coverage import Coverage, Done, cover
from simulator.instrument.emulating import Emulating, EmulatingParts, Watcher
from simulator.instrument.forward import Call, forward
from simulator.instrument.given_bounds import given_bounds
from simulator.instrument.intermediates import rounded, rounding
from simulator.instrument.machines.byte_codes import ByteCodes
from simulator.instrument.machines.machine import Emulated, Machine
from simulator.instrument.operand_groups import calibrated_groups
from simulator.instrument.plan import Plan
from simulator.instrument.rungs import Rung, machine
from simulator.instrument.same_bytes import same_bytes
from simulator.instrument.scheme.scheme import Scheme
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts, survey
from simulator.instrument.treatment import Treatment
from simulator.models.conditioning import Conditioning, call_for
from simulator.models.registry import Model


class QuantizedModel:
    """``model`` under ``scheme``.

    Weights are quantized and packed once, at the first call that meets them, and again if they change.

    Args:
        model: the network.
        scheme: what each site gets.
        ranges: calibrated bounds of every run-time operand with a static range, and of every requantized output; bounds
            of weights, where they are not to be their own extremes.
        allow_float: patterns of sites and modules that stay in float (``Allowance``), such as recurrent cells.
        rung: how much of the scheme is simulated; all of it by default.
        conditioning: what samples are conditioned on, and guidance; in a call by itself, row i is sample i.

    Raises:
        BadInput: ranges of a site or operand are missing, or were calibrated on other weights; bounds of a weight that
            is none, or of another shape than its scales; a pattern of the scheme names no site, or its target lacks
            what it asks for.
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
        conditioning: Conditioning | None = None,
    ) -> None:
        calibrated_on = ranges.source.get("weights_digest", model.weights_digest)
        if calibrated_on != model.weights_digest:
            raise BadInput(
                f"ranges must be calibrated on the model they serve, weights {model.weights_digest[:12]}",
                got=f"weights {calibrated_on[:12]}",
                fix="calibrate with this model",
            )
        self.model, self.scheme, self.ranges = model, scheme, ranges
        self.allow_float = tuple(allow_float)
        self.conditioning = conditioning
        self.sites: tuple[SiteFacts, ...] = survey(model, allow_float=self.allow_float, conditioning=conditioning)
        self.plan = Plan(scheme, self.sites)
        self._facts: Mapping[SiteKey, SiteFacts] = {facts.key: facts for facts in self.sites}
        self._given = given_bounds(ranges, self.plan)
        self._weights: dict[tuple[SiteKey, Hashable], tuple[Tensor, Any]] = {}
        self._machines: dict[tuple[SiteKey, str], dict[Treatment, Machine | None]]
        self.float_format: FloatFormat
        self._climb(rung)

    def __call__(
        self,
        x: Tensor,
        timestep: Tensor,
        watch: Watcher | None = None,
        *,
        step: int | None = None,
        audit: bool = True,
        call: Call | None = None,
    ) -> Tensor:
        """The network's output for float32 ``x``.

        Args:
            x: samples.
            timestep: one for each.
            watch: sees what each site gave.
            step: the sampler's loop index, for schemes and ranges that depend on it.
            audit: stop at contractions outside sites; without it only the sequence of sites is checked against the
                survey's (see ``forward``).
            call: gives a batch of other samples than the first n their conditions (``Conditioning.of``).

        Raises:
            BadInput: the sites differ from those of the survey, or no step is given where one is needed.
            UncoveredContraction: a contraction ran outside every site.
        """
        handler = (EmulatingParts if self._attends_in_parts(step) else Emulating)(self, watch, step)
        call = call or call_for(self.model, self.conditioning, range(len(x)))
        with rounding(self.float_format):
            output = forward(
                self.model.module, handler, rounded(x, self.float_format), timestep, call=call, audit=audit,
                allow_float=self.allow_float,
            )  # fmt: skip
        if tuple(handler.visited) != tuple(self._facts):
            raise BadInput(
                "a model must run the same sites in every forward pass",
                got=f"{len(handler.visited)} sites, not the {len(self._facts)} of the first pass in their order",
                fix="use a model without data-dependent structure",
            )
        return output

    def on(self, rung: Rung) -> QuantizedModel:
        """The same network on another rung; prepared weights are shared where both take the same."""
        other = copy.copy(self)
        other._climb(rung)
        return other

    def _climb(self, rung: Rung) -> None:
        self.rung, self._machines = rung, {}
        self.float_format = self.scheme.float_format if rung is Rung.COMPLETE else FLOAT32
        if not self.scheme.has_steps and self.ranges.steps.sets[0].serves is None:
            for facts in self.sites:  # what is missing shows before the first step
                self.machine(facts.key)

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
            call=call_for(self.model, self.conditioning, range(len(x))), allow_float=self.allow_float,
            describe=describe,
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
        if self.float_format == FLOAT32:
            return found
        return Emulated(rounded(found.output, self.float_format), found.clipped, found.overflowed, found.saturated)

    def machine(self, site: SiteKey, step: int | None = None) -> Machine | None:
        """What computes the site; None where it stays in float.

        Raises:
            BadInput: missing ranges, or no step where one is needed.
        """
        treatment = self.plan.at(site, step)
        served = self.ranges.steps.serving(step) if treatment.calibrated else ""
        known = self._machines.setdefault((site, served), {})
        if treatment not in known:
            known[treatment] = None
            if not treatment.in_float:
                parameters = calibrated(treatment, site, self.ranges, step)
                groups = calibrated_groups(treatment, self._facts[site], self.ranges, step)
                own = self.treatment(site, step)
                known[treatment] = machine(own, site.operation, parameters, self.rung, groups)
        return known[treatment]

    def treatment(self, site: SiteKey, step: int | None = None) -> Treatment:
        """What a site gets: that of the plan, with the given bounds of its weight.

        Raises:
            BadInput: no step where one is needed.
        """
        planned, given = self.plan.at(site, step), self._given.get(site)
        return planned if given is None or planned.in_float else replace(planned, weight_bounds=given)

    def formats(self, site: SiteKey, step: int | None = None) -> Mapping[str, ScaledFormat]:
        """Format, scale and zero point of each static run-time operand of a site, by role; log-sqrt2 codes and
        groups of channels have none.

        Raises:
            BadInput: codes wider than 8 bits, as :class:`ScaledFormat`.
        """
        treatment = self.plan.at(site, step)
        parameters = calibrated(treatment, site, self.ranges, step)
        return {
            role: ScaledFormat(operand.spec, parameters[role].scale, parameters[role].zero_point)
            for role, operand in treatment.operands.items()
            if role in parameters and not operand.logarithmic
        }

    def _prepared(self, site: SiteKey, runs: Machine, contraction: Weighted) -> Any:
        # compared by content: an address may be used again, and changes through .data move no version counter
        known = self._weights.get((site, runs.weight_key))
        if known is None or not same_bytes(known[0], contraction.weight):
            weight = contraction.weight.detach().clone()
            known = self._weights[site, runs.weight_key] = (weight, runs.prepare(contraction, weight))
        return known[1]

    def _attends_in_parts(self, step: int | None) -> bool:
        """Whether every attention product has one static scale per operand, bytes, exact sums and a float32 output."""
        if self.float_format != FLOAT32:
            return False  # the softmax between them is an operation to be rounded
        machines = [self.machine(key, step) for key in self._facts if key.operation in ("qk", "pv")]
        return all(isinstance(runs, ByteCodes) and runs.static for runs in machines)
