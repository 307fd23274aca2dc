"""What most claims measure: SQNR of schemes and recipes on shared noise, all of it redrawn by the seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from noise_models.metrics import sqnr_db
from samplers.ddim import DDIM
from samplers.sampler import Sampler
from simulator.models.loading import load
from simulator.models.registry import Model
from simulator.paired import Arm, run_arms
from studies.claims.claim import Report, Setting
from studies.recipes.recipe import Prepared, Recipe, Source, Stage
from studies.recipes.stages.ranges import TrajectoryRanges
from studies.recipes.stages.scheme import UseScheme
from studies.recipes.task import Bits, Task


def subject(setting: Setting, *, eta: float = 0.0) -> tuple[Model, Sampler]:
    """The setting's model, and DDIM with the setting's steps."""
    model = load(setting.subject)
    assert model.schedule is not None
    return model, DDIM(model.schedule, setting.steps, eta, prediction_type=model.prediction_type)


def plain(scheme: str, setting: Setting, *stages: Stage) -> Recipe:
    """A scheme as it stands, with min-max ranges, and what follows."""
    source = Source("", "", "")
    ranges = TrajectoryRanges(setting.calibration_samples)
    return Recipe(scheme, scheme, source, (UseScheme(scheme), ranges, *stages))


def prepared(
    recipes: Sequence[Recipe], setting: Setting, seed: int, report: Report, *, bits: str = "w8a8", eta: float = 0.0
) -> list[Prepared]:
    """Recipes on the setting's subject."""
    model, sampler = subject(setting, eta=eta)
    task = Task(model, sampler, Bits.parse(bits), batch_size=setting.batch_size)
    return [recipe.prepare(task, seed=seed, report=report) for recipe in recipes]


def runs(
    recipes: Sequence[Recipe], setting: Setting, seed: int, report: Report, *, bits: str = "w8a8", eta: float = 0.0,
    kinds: tuple[str, ...] = ("injected", "accumulated"),
) -> tuple[xr.Dataset, ...]:  # fmt: skip
    """Paired runs of recipes on the same held-out samples."""
    model, sampler = subject(setting, eta=eta)
    arms = [Arm(made.network, made.correction) for made in prepared(recipes, setting, seed, report, bits=bits, eta=eta)]
    return run_arms(
        arms, sampler, samples=setting.samples, seed=seed, batch_size=setting.batch_size, kinds=kinds, sites=False,
        reference=model, progress=lambda done, total: report("sampling", done, total),
    )  # fmt: skip


def injected_db(run: xr.Dataset) -> np.ndarray:
    """SQNR of epsilon at full precision's x_t, per step, dB."""
    return np.asarray(sqnr_db(run, "epsilon_injected").sqnr_db.values)


def final_db(run: xr.Dataset) -> float:
    """SQNR of the final sample, dB."""
    return float(sqnr_db(run, "state_accumulated").sqnr_db[-1])
