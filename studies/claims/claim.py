"""A published claim as something that can be found true or false."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from samplers.errors import BadInput
from studies.claims.verdict import FEWEST_SEEDS, Direction
from studies.recipes.recipe import Source

Report = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""

Measure = Callable[["Setting", int, Report], Mapping[str, float]]
"""Called with (setting, seed, report): the value of every endpoint, NaN where there is none."""


SEEDS = 5
"""Of a claim: a seed redraws calibration data, whatever is optimised, and sampling noise."""

TRAINING_SEEDS = 3
"""Of a claim that trains networks further, whose seeds take minutes each."""


@dataclass(frozen=True)
class Endpoint:
    """A number that a claim is about.

    Args:
        name: unique in its claim.
        meaning: what it is, in a line.
        unit: of its values.
        direction: where the claim puts it.
        smallest: from there on it would matter.
    """

    name: str
    meaning: str
    unit: str
    direction: Direction
    smallest: float


@dataclass(frozen=True)
class Setting:
    """What a measurement runs on.

    Args:
        subject: name of a model.
        samples: held-out samples per seed, and as many others that a correction is fitted on.
        calibration_samples: samples that ranges are found on.
        steps: of the sampler; of the optimizer for a claim that trains and samples nothing.
        batch_size: samples per forward pass.
    """

    subject: str
    samples: int = 512
    calibration_samples: int = 256
    steps: int = 50
    batch_size: int = 256


@dataclass(frozen=True)
class Claim:
    """A claim, committed before its first full run.

    Args:
        name: as on the command line; another name for anything that changes here.
        statement: what the paper says, in our words.
        source: the paper.
        endpoints: what is measured.
        settings: on what; a verdict names its subject.
        seeds: how many, 0 to seeds - 1.
        trains: whether it trains networks further; then ``TRAINING_SEEDS`` will do.
        measure: makes the endpoints' values.

    Raises:
        BadInput: no endpoint or setting, two of one name, or too few seeds.
    """

    name: str
    statement: str
    source: Source
    endpoints: tuple[Endpoint, ...]
    settings: tuple[Setting, ...]
    measure: Measure
    seeds: int = SEEDS
    trains: bool = False

    def __post_init__(self) -> None:
        for what, names in (
            ("endpoints", [endpoint.name for endpoint in self.endpoints]),
            ("subjects", [setting.subject for setting in self.settings]),
        ):
            if not names or len(set(names)) < len(names):
                raise BadInput(f"{what} must have different names, one at least", got=names, fix="rename them")
        if self.seeds < FEWEST_SEEDS:
            raise BadInput(f"a claim needs at least {FEWEST_SEEDS} seeds", got=self.seeds, fix="use 5")

    @property
    def intervals(self) -> int:
        """How many intervals it has, which hold together."""
        return len(self.endpoints) * len(self.settings)


@dataclass(frozen=True)
class UntestableClaim:
    """A claim that no shipped model can decide: listed with the reason, never measured.

    Args:
        name: as on the command line.
        statement: what the paper says, in our words.
        source: the paper.
        endpoint: what the paper measured.
        reason: what is missing here.

    Raises:
        BadInput: no endpoint or reason.
    """

    name: str
    statement: str
    source: Source
    endpoint: str
    reason: str

    def __post_init__(self) -> None:
        if not self.endpoint or not self.reason:
            raise BadInput("a claim that is not tested says what and why", got=repr(self.name), fix="give both")


Published = Claim | UntestableClaim
"""What a paper claims, testable here or not."""
