"""The handler that observes every operand of a forward pass, for all sites at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from samplers.errors import BadInput
from samplers.validation import require_bool
from simulator.arithmetic.granularity import PerTensor
from simulator.arithmetic.quantizer import QuantSpec
from simulator.calibration.channels import (
    OperandGranularity,
    PerChannelGroup,
    PerHeadChannel,
    channel_axis,
    granularity_config,
    heads_and_channels,
    observe,
    parameter_shape,
)
from simulator.calibration.observers import Accumulator, MinMax, Observer
from simulator.calibration.ranges import OUTPUT, Ranges
from simulator.calibration.steps import ALL_STEPS, StepSets
from simulator.instrument.contractions import Contraction
from simulator.instrument.sites import SiteKey

Specs = QuantSpec | Mapping[tuple[SiteKey, str], QuantSpec]
"""The spec of every operand: one for all, or by (site, role)."""


class Collector:
    """Handler that runs each contraction in float and shows its operands to accumulators.

    Args:
        observer: makes one accumulator per operand and step set.
        steps: the step sets.
        granularity: which elements of an operand share bounds.
        outputs: observe the contractions' results too, under the role "output".
        specs: what the ranges are for; needed by observers that search for the smallest quantization error.

    Attributes:
        step: loop index of the pass that runs, set by the caller; None is no step in particular.

    Raises:
        BadInput: an argument of another type, or no specs where the observer needs them.
    """

    def __init__(
        self,
        observer: Observer = MinMax(),  # noqa: B008 - an immutable value
        *,
        steps: StepSets = ALL_STEPS,
        granularity: OperandGranularity = PerTensor(),  # noqa: B008 - an immutable value
        outputs: bool = False,
        specs: Specs | None = None,
    ) -> None:
        if not isinstance(observer, Observer):
            raise BadInput("observer must be an observer, such as MinMax()", got=repr(observer), fix="pass a value")
        if not isinstance(steps, StepSets):
            raise BadInput("steps must be StepSets", got=repr(steps), fix="pass StepSets.each(50), say")
        if specs is not None and not isinstance(specs, QuantSpec | Mapping):
            raise BadInput("specs must be a QuantSpec or a mapping", got=repr(specs), fix="pass one of them")
        require_bool("outputs", outputs)
        granularity_config(granularity)
        if observer.needs_spec and specs is None:
            raise BadInput(
                f"the observer {observer.config()} needs the specs of the operands", got="none",
                fix="pass specs=, one QuantSpec for all or one by (site, role)",
            )  # fmt: skip
        self._observer, self._steps, self._granularity, self._specs = observer, steps, granularity, specs
        self._outputs = outputs
        self._found: dict[tuple[SiteKey, str, str], tuple[tuple[int, ...], Accumulator]] = {}
        self._groups: dict[tuple[SiteKey, str, str], np.ndarray] = {}
        self.step: int | None = None

    def __call__(self, site: SiteKey, contraction: Contraction) -> Tensor:
        """Observe, then compute in float.

        Raises:
            BadInput: an operand holds NaN or infinity, or its number of channels changes.
        """
        names = self._steps.observing(self.step)
        if names:
            for role, operand in contraction.activations().items():
                self._observe(site, role, operand, contraction, names)
        output = contraction.float()
        if names and self._outputs:
            self._observe(site, OUTPUT, output, contraction, names)
        return output

    def _observe(
        self, site: SiteKey, role: str, operand: Tensor, contraction: Contraction, names: tuple[str, ...]
    ) -> None:
        axis = channel_axis(contraction, operand.ndim)
        granularity, seen = self._granularity, operand
        shape = parameter_shape(granularity, tuple(operand.shape), axis)
        heads = heads_and_channels(role, operand.ndim) if isinstance(granularity, PerHeadChannel) else None
        if heads is not None:  # seen as (..., heads x channels)
            shape = tuple(n if i in heads else 1 for i, n in enumerate(operand.shape))
            seen, axis = operand.movedim(heads, (-2, -1)).flatten(-2), operand.ndim - 2
        observed = observe(seen, granularity, axis, f"{site} {role}")
        for name in names:
            known = self._found.get((site, role, name))
            if known is None:
                accumulator = self._observer.accumulator(len(observed.low), self._spec(site, role))
                known = self._found[site, role, name] = shape, accumulator
            if known[0] != shape:
                raise BadInput(
                    "an operand must keep its channels", got=f"{shape} after {known[0]} at {site} {role}",
                    fix="calibrate per tensor",
                )  # fmt: skip
            known[1].update(observed)
            if isinstance(granularity, PerChannelGroup):
                self._groups[site, role, name] = np.arange(operand.shape[axis]) // granularity.size

    def _spec(self, site: SiteKey, role: str) -> QuantSpec | None:
        if self._specs is None or isinstance(self._specs, QuantSpec):
            return self._specs
        if (site, role) not in self._specs and self._observer.needs_spec:
            raise BadInput("every operand needs a spec", got=f"none for {site} {role}", fix="add it to specs")
        return self._specs.get((site, role))

    def ranges(self, source: Mapping[str, Any]) -> Ranges:
        """What was seen so far, with where it came from."""
        bounds = {}
        for key, (shape, accumulator) in self._found.items():
            low, high = accumulator.bounds()
            bounds[key] = low.reshape(shape), high.reshape(shape)
        return Ranges(bounds, dict(source), self._steps, dict(self._groups))

    def config(self) -> dict[str, Any]:
        """How it observes, as plain JSON values: what differs from the defaults is named."""
        config: dict[str, Any] = {"observer": self._observer.config()}
        if self._steps != ALL_STEPS:
            config["steps"] = self._steps.config()
        if self._granularity != PerTensor():
            config["granularity"] = granularity_config(self._granularity)
        if self._outputs:
            config["outputs"] = True
        if self._observer.needs_spec:
            config["specs"] = _specs_config(self._specs)
        return config


def _specs_config(specs: Specs | None) -> Any:
    if isinstance(specs, QuantSpec):
        return _spec_config(specs)
    return {f"{site} {role}": _spec_config(spec) for (site, role), spec in (specs or {}).items()}


def _spec_config(spec: QuantSpec) -> dict[str, Any]:
    """What a search reads of a spec; the granularity is the operand's."""
    return {
        "format": str(spec.format),
        "symmetric": spec.symmetric,
        "rounding": spec.rounding.name,
        "rule": str(spec.rule),
        "scale_format": str(spec.scale_format),
    }
