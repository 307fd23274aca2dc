"""Activation bits that change with the step, chosen from the injected noise of schemes that were run on calibration
samples; the rules are those of ``qnoise precision``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import xarray as xr

from noise_models.conversions import READINGS
from noise_models.correction.fitting import MIN_BLOCKS
from noise_models.precision.candidates import Candidates
from noise_models.precision.policy import InScope, Policy, step_parts
from noise_models.precision.ptqd_rule import ptqd_policy
from noise_models.precision.sigmoid_rule import IMPORTANCES, ROUNDINGS, SPAN, sigmoid_policy
from samplers.errors import BadInput
from samplers.validation import require_choice, require_int, require_real
from simulator.instrument.plan import Plan
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Rule, Scheme, Settings
from simulator.instrument.scheme.settings import LARGEST_BITS
from simulator.instrument.survey import survey
from studies.precision.measuring import measure_candidates
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Report
from studies.recipes.task import Bits, Task


class BitsRule(Protocol):
    """Which schemes are run, and which of them each step gets; a frozen value."""

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        ...

    def widths(self, task: Task) -> tuple[int, ...]:
        """Activation bits of the candidates, ascending."""
        ...

    def scheme(self, task: Task, bits: int) -> Scheme:
        """The candidate of a width."""
        ...

    def policy(self, candidates: Candidates, table: xr.Dataset, seed: int) -> Policy:
        """The choice."""
        ...


@dataclass(frozen=True)
class SNRRule:
    """PTQD's: the least width whose SNR^Q exceeds SNR^F (``ptqd_policy``), at one width of weights.

    Args:
        above: what candidates have above the task's activation bits, ascending from 0. The paper mixes 4 and 8 bits.
        reading: of SNR^F; ``amplitude`` is the rule as printed.
        margin_db: added to SNR^F.
        parts: consecutive ranges of steps that choose together; None for each step by itself.

    Raises:
        BadInput: an argument breaks its rule.
    """

    above: tuple[int, ...] = (0, 4)
    reading: str = "amplitude"
    margin_db: float = 0.0
    parts: int | None = None

    def __post_init__(self) -> None:
        bits = tuple(require_int("bits above the task's", more, 0) for more in self.above)
        if len(bits) < 2 or bits[0] != 0 or sorted(set(bits)) != list(bits):
            raise BadInput("bits above the task's must ascend from 0, two at least", got=self.above, fix="use (0, 4)")
        object.__setattr__(self, "above", bits)
        require_choice("reading", self.reading, READINGS)
        object.__setattr__(self, "margin_db", require_real("margin_db", self.margin_db))
        if self.parts is not None:
            require_int("parts", self.parts, 1)

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        return {
            "rule": "ptqd", "above": list(self.above), "reading": self.reading, "margin_db": self.margin_db,
            "parts": self.parts,
        }  # fmt: skip

    def widths(self, task: Task) -> tuple[int, ...]:
        """The task's, and those above."""
        step_parts(task.steps, self.parts)
        return tuple(task.bits.activations + more for more in self.above)

    def scheme(self, task: Task, bits: int) -> Scheme:
        """The plain one of these bits."""
        return Scheme.parse(str(Bits(task.bits.weights, bits)))

    def policy(self, candidates: Candidates, table: xr.Dataset, seed: int) -> Policy:
        """Nothing is drawn."""
        return ptqd_policy(candidates, table, reading=self.reading, margin_db=self.margin_db, parts=self.parts)


PROJECTIONS = ("@query", "@key", "@value", "@output")
PRODUCTS = ("@attention",)

LEAST_KEY_BITS, FEWER_KEY_BITS = 4, 2


def key_bits(bits: int) -> int:
    """PTQ-AttnDM's bits of the key projection, ``max(4, b - 2)``; below 4 bits more than the others have."""
    return max(LEAST_KEY_BITS, bits - FEWER_KEY_BITS)


@dataclass(frozen=True)
class AttentionSchedule:
    """PTQ-AttnDM's: attention gets b + 2 sigmoid(importance) bits, rounded (``sigmoid_policy``), the key fewer.

    At b bits the key projection (weight and input) and the key of QK^T have ``max(4, b - 2)``, and the scores QK^T are
    quantized to b bits over their calibrated range. What is not attention has the task's bits at every step.

    Args:
        importance: of a step, of ``IMPORTANCES`` but ``final``, which needs gains.
        rounding: of ``ROUNDINGS`` but ``budget``, which needs one.

    Raises:
        BadInput: an unknown name.
    """

    importance: str = "one-step"
    rounding: str = "nearest"

    def __post_init__(self) -> None:
        require_choice("importance", self.importance, tuple(name for name in IMPORTANCES if name != "final"))
        require_choice("rounding", self.rounding, tuple(name for name in ROUNDINGS if name != "budget"))

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        return {"rule": "sigmoid", "importance": self.importance, "rounding": self.rounding}

    def widths(self, task: Task) -> tuple[int, ...]:
        """All from b to b + 2."""
        base = task.bits.activations
        return tuple(range(base, base + int(SPAN) + 1))

    def scheme(self, task: Task, bits: int) -> Scheme:
        """Attention at these bits, the rest at the task's."""
        plain = Scheme.parse(str(task.bits))
        rules = (
            Rule(("*",), Settings(activation_bits=task.bits.activations)),
            *plain.rules,
            Rule((*PROJECTIONS, *PRODUCTS), Settings(activation_bits=bits)),
            Rule(("@key",), Settings(weight_bits=key_bits(task.bits.weights), activation_bits=key_bits(bits))),
            Rule(("@qk",), Settings(key_bits=key_bits(bits), output_bits=bits)),
        )
        settings = replace(plain.settings, activation_bits=bits)  # what a candidate is called by
        return Scheme(settings, rules, name=f"attention-{Bits(task.bits.weights, bits)}")

    def policy(self, candidates: Candidates, table: xr.Dataset, seed: int) -> Policy:
        """Importance from the noise at the task's bits."""
        return sigmoid_policy(candidates, table, kind=self.importance, rounding=self.rounding, seed=seed)


@dataclass(frozen=True)
class Scheduled(InScope):
    """The scope of a policy, whose ranges may have been calibrated anew since it was made."""

    def check(self, use: Mapping[str, Any]) -> None:
        """The policy's on its own ranges, then the correction's.

        Raises:
            BadInput: another model, sampler or scheme, or the samples that it was made on.
        """
        made_on = json.loads(self.policy.table.attrs["config"])["ranges"]
        self.policy.check({**use, "ranges": made_on})
        self.correction.check(dict(use))


@dataclass(frozen=True)
class ScheduleBits:
    """Run the rule's schemes on calibration samples, after ranges were calibrated, and schedule them over the steps.

    The result refuses to run under another sampler, on another model, or on the samples that it was chosen on. Ranges
    may be calibrated anew after it (``Steps.SCHEME`` has those of each run of steps of one width).

    Args:
        rule: which schemes, and which of them when.
        samples: of the stream "calibrate".

    Raises:
        BadInput: too few samples.
    """

    rule: BitsRule
    samples: int = 256
    name = "step bits"

    def __post_init__(self) -> None:
        if require_int("samples", self.samples, 1) < MIN_BLOCKS:
            raise BadInput(f"a schedule needs at least {MIN_BLOCKS} samples", got=self.samples, fix="use 256")

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        return {**self.rule.config(), "samples": self.samples}

    def require(self, task: Task) -> None:
        """Widths that the engine has, and sites that the rule's schemes name.

        Raises:
            BadInput: which says what is needed.
        """
        widths = self.rule.widths(task)
        widest = widths[-1]
        if widest > LARGEST_BITS:
            raise BadInput(
                f"step-aware bits need {widest} bits, {LARGEST_BITS} at most", got=f"{task.bits}",
                fix=f"ask for at most {LARGEST_BITS - widest + task.bits.activations} activation bits",
            )  # fmt: skip
        sites = survey(task.model, conditioning=task.conditioning)
        for bits in widths:
            Plan(self.rule.scheme(task, bits), sites)

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """The scheme whose rules name steps, with the scope that it holds in.

        Raises:
            BadInput: no stage before it has made ranges, or one has put another scheme in place.
        """
        task = preparation.task
        if preparation.ranges is None:
            raise BadInput(
                "step-aware bits need calibrated ranges", got="none", fix="put a stage that calibrates first"
            )
        ranges, added = preparation.ranges, _added_rules(preparation)

        def candidate(bits: int) -> Scheme:
            scheme = self.rule.scheme(task, bits)
            rules = (*scheme.rules, *added)
            return Scheme(scheme.settings, rules, scheme.target, scheme.intermediate, scheme.name)

        def network(scheme: Scheme) -> QuantizedModel:
            return QuantizedModel(preparation.model, scheme, ranges, conditioning=task.conditioning)

        candidates = Candidates(tuple(candidate(bits) for bits in self.rule.widths(task)))
        table = measure_candidates(
            candidates, network, task.sampler, samples=self.samples, seed=preparation.seed, batch_size=task.batch_size,
            reference=task.model if preparation.model is not task.model else None,
            progress=lambda done, total: report("measuring candidates", done, total),
        )  # fmt: skip
        policy = self.rule.policy(candidates, table, preparation.seed)
        made = replace(preparation, scheme=policy.scheme, correction=Scheduled(policy, preparation.correction))
        return made.noting(
            self.name, bits=policy.activation_bits[:, 0].tolist(), mean_bits=policy.mean_activation_bits,
            **{name: np.round(policy.details[name].values, 6).tolist() for name in policy.details if name in _TOLD},
        )  # fmt: skip


_TOLD = ("threshold_db", "importance", "effective_bits")
"""Of what rules compute on the way, that which has one number for each step."""


def _added_rules(preparation: Preparation) -> tuple[Rule, ...]:
    """Rules that stages before have added to the plain scheme of the task's bits."""
    before, plain = preparation.scheme, Scheme.parse(str(preparation.task.bits))
    count = len(plain.rules)
    if replace(before, rules=before.rules[:count]) != plain:
        raise BadInput(
            "step-aware bits start from the plain scheme of the task's bits, with rules after its own",
            got=str(before), fix="drop the stage that chooses another",
        )  # fmt: skip
    return before.rules[count:]
