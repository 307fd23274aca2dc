"""Full precision's samples of one subject and seed, drawn once for all recipes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samplers.ddim import DDIM
from samplers.sampler import Sampler
from simulator.instrument.accounting import Account, account
from simulator.instrument.plan import Plan
from simulator.instrument.scheme import Scheme
from simulator.instrument.survey import survey
from simulator.models.loading import load
from simulator.models.registry import Model
from studies.quality.drawing import EVALUATE, REPEAT
from studies.quality.sampling import Generator, final_images
from studies.recipes.recipe import Report
from studies.scoreboard.board import Board

Images = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Reference:
    """A subject under the board's sampler, and what full precision makes of a seed's noise."""

    model: Model
    sampler: Sampler
    seed: int
    images: Images
    repeat: Images

    @classmethod
    def draw(cls, board: Board, subject: str, seed: int, report: Report) -> Reference:
        """Sample twice: on the noise that all recipes share, and on other noise, for the floor."""
        model = load(subject)
        assert model.schedule is not None
        sampler = DDIM(model.schedule, board.steps, board.eta, prediction_type=model.prediction_type)

        def drawn(purpose: str) -> Images:
            return final_images(
                Generator(model), sampler, samples=board.samples, seed=seed, purpose=purpose,
                batch_size=board.batch_size,
                progress=lambda done, total: report(f"full precision, {purpose}", done, total),
            )  # fmt: skip

        return cls(model, sampler, seed, drawn(EVALUATE), drawn(REPEAT))

    @cached_property
    def float_cost(self) -> Account:
        """What the network costs; of a scheme's account only what it says of float32 is used."""
        return account(Plan(Scheme(), survey(self.model)), self.model.module)

    def config(self) -> dict[str, Any]:
        """What it is, as plain JSON values."""
        return {"weights_digest": self.model.weights_digest, "sampler": self.sampler.config(), "seed": self.seed}
