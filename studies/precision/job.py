"""A step-aware precision study as a value: candidates, rules and budgets, and the samples that make and judge them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from samplers.errors import BadInput
from studies.job import Job, Part

if TYPE_CHECKING:
    from noise_models.precision.candidates import Candidates
    from simulator.models.registry import Model

PTQD_RULES = ("ptqd-power", "ptqd-amplitude")
RULES = (*PTQD_RULES, "sigmoid", "exact", "greedy")
"""PTQD's rule in its two readings, PTQ-AttnDM's schedule, and the budgeted optimum by its two methods."""

NETWORK = "network"
"""The gains that differentiate the network."""

DEFAULT_CANDIDATES = ("w8a5", "w8a6", "w8a7", "w8a8")


@dataclass(frozen=True)
class PrecisionOptions:
    """How the rules choose.

    Args:
        rules: of ``RULES``; all that the candidates allow if empty.
        budgets: for ``exact`` and ``greedy``: a candidate's name for its bit operations, or a share of those of the
            dearest candidate; every candidate but the cheapest and the dearest if empty, or half if there is none.
        margin_db: of PTQD's rule.
        parts: ranges of steps that choose together, for PTQD's rule and the budgeted optimum; None for every step.
        base_bits: of the sigmoid rule; the least width if None.
        importance: of the sigmoid rule.
        rounding: of the sigmoid rule; not "budget", which needs one of its own.
        gains: ``network`` or a name of ``GAINS``, for the budgeted optimum and the prediction of the final noise.
        data_variance: of one element of x_0, for the gains ``gaussian``.
        groups: name -> patterns of sites that choose apart.
        range_sets: activation ranges are calibrated apart in so many ranges of steps.
        quality_samples: of each policy and of full precision, whose images are measured; 0 measures none.
    """

    rules: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()
    margin_db: float = 0.0
    parts: int | None = None
    base_bits: int | None = None
    importance: str = "one-step"
    rounding: str = "nearest"
    gains: str = NETWORK
    data_variance: float = 1.0
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    range_sets: int = 1
    quality_samples: int = 0

    def __post_init__(self) -> None:
        from noise_models.precision.gains import GAINS
        from noise_models.precision.sigmoid_rule import IMPORTANCES, ROUNDINGS
        from samplers.validation import require_choice, require_int, require_real

        for rule in self.rules:
            require_choice("rule", rule, RULES)
        if len(set(self.rules)) < len(self.rules) or len(set(self.budgets)) < len(self.budgets):
            raise BadInput("rules and budgets must differ", got=[*self.rules, *self.budgets], fix="name each once")
        require_choice("importance", self.importance, IMPORTANCES)
        require_choice("rounding", self.rounding, tuple(name for name in ROUNDINGS if name != "budget"))
        require_choice("gains", self.gains, (NETWORK, *GAINS))
        require_real("margin_db", self.margin_db)
        require_int("quality_samples", self.quality_samples, 0)
        if require_real("data_variance", self.data_variance) < 0:
            raise BadInput("data_variance must be at least 0", got=self.data_variance, fix="pass a variance")

    def chosen_rules(self, candidates: Candidates) -> tuple[str, ...]:
        """The rules asked for, or those that the candidates allow.

        Raises:
            BadInput: the sigmoid rule asked for where widths up to two above its base are missing.
        """
        bits, weights = set(candidates.activation_bits.tolist()), set(candidates.weight_bits.tolist())
        distinct = len(bits) == len(candidates.schemes)
        base = min(bits) if self.base_bits is None else self.base_bits
        reaches = base in bits and (self.rounding == "floor" or max(bits) >= base + 2)
        allowed = {
            **dict.fromkeys(PTQD_RULES, distinct and len(weights) == 1),
            "sigmoid": distinct and not candidates.groups and reaches,
        }
        if not self.rules and (self.base_bits is None or allowed["sigmoid"]):  # base bits ask for that rule
            return tuple(rule for rule in RULES if allowed.get(rule, True))
        for rule in self.rules or ("sigmoid",):
            if not allowed.get(rule, True):
                needs = {
                    "sigmoid": f"different activation widths from {base} to {base + 2} and no groups",
                }.get(rule, "different activation widths at one weight width")
                raise BadInput(f"the rule {rule} needs {needs}", got=", ".join(candidates.names), fix="drop the rule")
        return self.rules


@dataclass(frozen=True)
class PrecisionJob:
    """One invocation of ``qnoise precision``.

    Args:
        job: model, sampler, candidates (as its one part's schemes) and samples, as of ``qnoise run``.
        options: of the rules.
    """

    job: Job
    options: PrecisionOptions = PrecisionOptions()

    @property
    def part(self) -> Part:
        """Sampler and candidates."""
        return self.job.parts[0]

    def config(self, model: Model) -> dict[str, Any]:
        """All that determines the results, as plain JSON values."""
        options = {**dataclasses.asdict(self.options), "groups": {k: list(v) for k, v in self.options.groups.items()}}
        if not options["quality_samples"]:
            del options["quality_samples"]
        return {**self.job.config(model), "precision": options}

    def key(self, model: Model) -> str:
        """SHA-256 of the canonical configuration."""
        from simulator.provenance import run_key

        return run_key(self.config(model))


def groups_from_text(texts: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """``("attention=@attention", "up=up.*,mid.*")`` as groups.

    Raises:
        BadInput: another form, or a name twice.
    """
    groups: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, equals, patterns = text.partition("=")
        if not equals or not name or not all(patterns.split(",")) or name in groups:
            raise BadInput(
                "a group must read name=pattern,pattern with names that differ", got=repr(text),
                fix="write attention=@attention",
            )  # fmt: skip
        groups[name] = tuple(patterns.split(","))
    return groups
