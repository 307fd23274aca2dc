"""What is reconstructed how: parameters as values, and the three published methods among them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from samplers.errors import BadInput
from samplers.validation import require_choice, require_int, require_real
from simulator.arithmetic.arguments import require_kind

LARGEST_RISE = 10.0
"""A loss that stays above this many times its start has diverged."""

RISE_ITERATIONS = 20
"""Iterations whose mean loss is looked at."""


def _check_optimizer(learn: Any) -> None:
    for name in ("iterations", "batch_size"):
        object.__setattr__(learn, name, require_int(name, getattr(learn, name), 1))
    _real(learn, "learning_rate", low=0.0)
    _real(learn, "p", low=1.0)


def _real(value: Any, name: str, low: float) -> None:
    number = require_real(name, getattr(value, name))
    if number < low:
        raise BadInput(f"{name} must be at least {low:g}", got=number, fix="see the defaults")
    object.__setattr__(value, name, number)


@dataclass(frozen=True)
class LearnRoundings:
    """Adam on the alphas of a unit's weights: ``error + regularizer sum(1 - |2h - 1|**b)``.

    Args:
        iterations: of Adam, for each unit.
        batch_size: samples of an iteration, drawn without replacement.
        learning_rate: of Adam.
        p: the error is the p-th power of the difference's p-norm.
        regularizer: lambda.
        warm_up: share of the iterations without the regularizer.
        b: its exponent after the warm-up and at the end.
        error_unit: ``"absolute"``, as published: the same lambda weighs a hundred times less where outputs are ten
            times larger. ``"nearest"``: the error is divided by what nearest rounding loses per weight, so that lambda
            is a number without unit.

    Raises:
        BadInput: an argument breaks its rule.
    """

    iterations: int = 20_000
    batch_size: int = 32
    learning_rate: float = 1e-3
    p: float = 2.0
    regularizer: float = 0.01
    warm_up: float = 0.2
    b: tuple[float, float] = (20.0, 2.0)
    error_unit: str = "absolute"

    def __post_init__(self) -> None:
        _check_optimizer(self)
        require_choice("error_unit", self.error_unit, ("absolute", "nearest"))
        _real(self, "regularizer", low=0.0)
        _real(self, "warm_up", low=0.0)
        if self.warm_up >= 1:
            raise BadInput("warm_up must be below 1", got=self.warm_up, fix="use 0.2")
        if not isinstance(self.b, tuple | list) or len(self.b) != 2:
            raise BadInput("b must be two exponents", got=repr(self.b), fix="use (20.0, 2.0)")
        object.__setattr__(self, "b", tuple(require_real("b", b) for b in self.b))
        if min(self.b) < 1:
            raise BadInput("b must be at least 1", got=self.b, fix="use (20.0, 2.0)")


@dataclass(frozen=True)
class LearnScales:
    """Adam on activation scales, through the straight-through estimator and LSQ's gradient.

    Args:
        iterations: of Adam, for each unit.
        batch_size: samples of an iteration.
        learning_rate: at the start; half a cosine takes it to 0.
        p: as in :class:`LearnRoundings`.

    Raises:
        BadInput: an argument breaks its rule.
    """

    iterations: int = 5_000
    batch_size: int = 32
    learning_rate: float = 1e-3
    p: float = 2.4

    def __post_init__(self) -> None:
        _check_optimizer(self)


@dataclass(frozen=True)
class Reconstruction:
    """One method of rounding optimisation.

    Args:
        name: of the method: it names the derived model.
        unit: ``"layer"``, each contraction alone, or ``"block"``.
        inputs: what a unit is fed: full precision's (``"float"``), those of the network quantized so far
            (``"quantized"``), or each element from either by chance, inside the unit too (``"drop"``).
        dropped: with ``"drop"``, probability that an element stays in full precision.
        roundings: how weights are rounded.
        scales: how activation scales are learned afterwards; None leaves them as calibrated.
        variant: ``"paper"``: the error is summed over a sample's elements; ``"released"``: summed over axis 1 and
            averaged over the others, as BRECQ's code has it, so that the regularizer weighs more where outputs have
            many positions.

    Raises:
        BadInput: an argument breaks its rule.
    """

    name: str = "reconstruction"
    unit: str = "block"
    inputs: str = "quantized"
    dropped: float = 0.5
    roundings: LearnRoundings = LearnRoundings()
    scales: LearnScales | None = LearnScales()
    variant: str = "paper"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise BadInput("a method must have a name", got=repr(self.name), fix="name it")
        require_choice("unit", self.unit, ("layer", "block"))
        require_choice("inputs", self.inputs, ("float", "quantized", "drop"))
        require_choice("variant", self.variant, ("paper", "released"))
        _real(self, "dropped", low=0.0)
        if self.dropped > 1:
            raise BadInput("dropped must be a probability", got=self.dropped, fix="use 0.5")
        require_kind("roundings", self.roundings, LearnRoundings)
        if self.scales is not None:
            require_kind("scales", self.scales, LearnScales)

    def config(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "roundings": {**asdict(self.roundings), "b": list(self.roundings.b)}}


def adaround(preset: str = "published") -> Reconstruction:
    """AdaRound: each layer alone, fed by the network quantized so far; activation scales stay as calibrated."""
    return at_preset(Reconstruction("adaround", "layer", "quantized", scales=None), preset)


def brecq(preset: str = "published") -> Reconstruction:
    """BRECQ, as Q-Diffusion uses it: blocks, then activation scales."""
    return at_preset(Reconstruction("brecq", "block", "quantized"), preset)


def qdrop(preset: str = "published") -> Reconstruction:
    """QDrop: blocks under activations of which each element is quantized with probability 1/2."""
    return at_preset(Reconstruction("qdrop", "block", "drop"), preset)


def at_preset(method: Reconstruction, preset: str) -> Reconstruction:
    """The method with a preset's lengths and rates.

    Args:
        method: what is optimised.
        preset: ``"published"``: the papers' 20000 iterations per unit. ``"full"``: fewer with longer steps, which the
            recipes use. ``"quick"``: a minute or two for the shipped models, to see that it runs.

    Raises:
        BadInput: another preset.
    """
    roundings, scales = _PRESETS[require_choice("preset", preset, tuple(_PRESETS))]
    return replace(method, roundings=roundings, scales=method.scales and scales)


def _short(
    iterations: int, rate: float, scale_iterations: int, scale_rate: float
) -> tuple[LearnRoundings, LearnScales]:
    """Few iterations need long steps: alphas start within 2.5 of 0, and an iteration moves them by about the rate.

    They also need a regularizer that does its work in time whatever the outputs' size.
    """
    roundings = LearnRoundings(iterations=iterations, learning_rate=rate, regularizer=10.0, error_unit="nearest")
    return roundings, LearnScales(iterations=scale_iterations, learning_rate=scale_rate)


_PRESETS = {
    "published": (LearnRoundings(), LearnScales()),
    "full": _short(1000, 1e-2, 300, 3e-3),
    "quick": _short(300, 2e-2, 100, 5e-3),
}
