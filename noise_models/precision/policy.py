"""A policy: which candidate each step takes, as data, with the system that it was made for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from noise_models.correction.scope import require_disjoint, require_same_scope
from noise_models.inference.pooling import Array
from noise_models.precision.candidates import Candidates
from noise_models.precision.gains import require_gains
from samplers.errors import BadInput
from simulator.correction import Correction, NoCorrection
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.paired import Arm

if TYPE_CHECKING:
    from torch import Tensor

    from samplers.coefficients import Update
    from simulator.calibration.ranges import Ranges
    from simulator.models.conditioning import Conditioning
    from simulator.models.registry import Model

WHAT = "a policy"


@dataclass(frozen=True, eq=False)
class Policy:
    """A candidate for each step, or for each step and group of sites.

    Made by a rule (``ptqd_policy``, ``sigmoid_policy``, ``budgeted_policy``), or by hand.

    Args:
        name: of the policy and of its scheme.
        candidates: what is chosen from.
        choice: (step, group) indices of candidates.
        table: what it was made from (``candidate_table``).
        rule: the rule and its parameters, as plain JSON values.
        details: what the rule computed on the way, such as thresholds, over the table's dimensions.

    Raises:
        BadInput: choices of another shape than the table's steps and groups, or of no candidate.
    """

    name: str
    candidates: Candidates
    choice: NDArray[np.int64]
    table: xr.Dataset
    rule: Mapping[str, Any] = field(default_factory=dict)
    details: xr.Dataset = field(default_factory=xr.Dataset)

    def __post_init__(self) -> None:
        if tuple(self.table.candidate.values) != self.candidates.names:
            raise BadInput(
                "a policy's table must be that of its candidates", got=list(self.table.candidate.values),
                fix="use candidate_table",
            )  # fmt: skip
        choice = np.array(self.choice)
        steps = self.table.sizes["step"]
        if len(choice) != steps:
            raise BadInput(f"a policy needs a choice for each of {steps} steps", got=len(choice), fix="choose for all")
        _ = self.candidates.scheme(choice, self.name)  # which refuses what is no choice
        choice.setflags(write=False)
        object.__setattr__(self, "choice", choice)

    @cached_property
    def scheme(self) -> Scheme:
        """The scheme to run, whose rules name steps."""
        return self.candidates.scheme(self.choice, self.name)

    @property
    def activation_bits(self) -> NDArray[np.int64]:
        """(step, group)."""
        return self.candidates.activation_bits[self.choice]

    @property
    def mean_activation_bits(self) -> float:
        """Over steps and groups, groups weighted by the bit operations of their first candidate."""
        weight = self.table["bops"].to_numpy()[:, 0].astype(np.float64)
        return float(np.average(self.activation_bits.mean(0), weights=weight if weight.any() else None))

    @property
    def bops(self) -> NDArray[np.int64]:
        """Bit operations per sample of each step, (step,)."""
        return self._chosen("bops").sum(1)

    @property
    def total_bops(self) -> int:
        """Over all steps."""
        return int(self.bops.sum())

    def predicted_noise(self, gains: ArrayLike) -> float:
        """Sum over steps of gain times injected noise power, those of the groups added."""
        return float((require_gains(gains, self.table)[:, None] * self._chosen("noise_power")).sum())

    def arm(
        self,
        model: Model,
        ranges: Ranges,
        correction: Correction | None = None,
        *,
        allow_float: tuple[str, ...] = (),
        conditioning: Conditioning | None = None,
    ) -> Arm:
        """An arm that runs the policy, and refuses to run outside its scope."""
        quantized = QuantizedModel(model, self.scheme, ranges, allow_float=allow_float, conditioning=conditioning)
        return Arm(quantized, InScope(self, correction or NoCorrection()))

    def check(self, use: Mapping[str, Any]) -> None:
        """Refuse a run of another model, sampler, guidance or scheme, and one on the samples it was made from.

        Raises:
            BadInput: naming what differs.
        """
        plain = json.loads(json.dumps(use))
        own = json.loads(json.dumps(self.scheme.config()))
        if plain.get("scheme_config") != own:
            raise BadInput(
                f"the policy {self.name} runs as its own scheme", got=str(plain.get("scheme")), fix="use policy.arm"
            )
        measured = {**json.loads(self.table.attrs["config"]), "scheme": plain["scheme"], "scheme_config": own}
        require_same_scope(measured, plain, WHAT)
        require_disjoint(measured, plain, WHAT)

    def renamed(self, name: str) -> Policy:
        """The same policy under another name."""
        return replace(self, name=name)

    def dataset(self) -> xr.Dataset:
        """``activation_bits`` and ``choice`` (step, group), ``bops`` (step,), and the rule's own variables."""
        attrs = {"units": "bit", "long_name": "activation bits", "definition": "of the chosen candidate's settings"}
        data = {
            "activation_bits": (("step", "group"), self.activation_bits, attrs),
            "choice": (("step", "group"), self.choice, {"units": "1", "long_name": "index of the chosen candidate"}),
            "bops": (("step",), self.bops, {"units": "1", "long_name": "bit operations per sample"}),
        }
        own = xr.Dataset(
            data, {name: self.table[name] for name in ("group", "candidate", "timestep") if name in self.table}
        )
        own.attrs = {"policy": self.name, "rule": json.dumps(dict(self.rule), sort_keys=True), **self.table.attrs}
        return own.merge(self.details)

    def _chosen(self, variable: str) -> NDArray[Any]:
        """The variable of the chosen candidates, (step, group)."""
        values = self.table[variable].to_numpy()
        values = np.broadcast_to(values, (len(self.choice), *values.shape[-2:]))
        return np.take_along_axis(values, self.choice[..., None], axis=-1)[..., 0]


@dataclass(frozen=True)
class InScope:
    """A correction (by default none) whose run is first held to the scope of a policy; otherwise that correction."""

    policy: Policy
    correction: Correction = field(default_factory=NoCorrection)

    @property
    def name(self) -> str:
        """The correction's: the policy has the scheme's name."""
        return self.correction.name

    def config(self) -> dict[str, Any]:
        """The correction's: what the policy decided is the scheme."""
        return self.correction.config()

    def check(self, use: dict[str, Any]) -> None:
        """The policy's, then the correction's."""
        self.policy.check(use)
        self.correction.check(use)

    def input(self, step: int, x: Tensor) -> Tensor:
        """The correction's."""
        return self.correction.input(step, x)

    def epsilon(self, step: int, epsilon: Tensor, members: np.ndarray) -> Tensor:
        """The correction's."""
        return self.correction.epsilon(step, epsilon, members)

    def update(self, step: int, update: Update) -> Update:
        """The correction's."""
        return self.correction.update(step, update)


def step_parts(steps: int, parts: int | None) -> NDArray[np.int64]:
    """(step,): which of ``parts`` consecutive ranges, as equal as can be, each step lies in; None for one per step.

    Raises:
        BadInput: fewer than one part, or more than steps.
    """
    if parts is None:
        return np.arange(steps)
    if not isinstance(parts, int) or not 1 <= parts <= steps:
        raise BadInput(f"parts must be 1 to {steps}, the steps", got=parts, fix="leave it out for one per step")
    return np.arange(steps) * parts // steps


def per_part(values: Array, part: NDArray[np.int64]) -> Array:
    """Sums over the steps of each part, (part, ...)."""
    total = np.zeros((int(part.max()) + 1, *values.shape[1:]), values.dtype)
    np.add.at(total, part, values)
    return total
