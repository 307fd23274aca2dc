"""One cell of the scoreboard: a recipe prepared, its noise, its samples' quality and its cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from noise_models.metrics import sqnr_db
from samplers.errors import BadInput
from simulator.instrument.accounting import account
from simulator.paired import INJECTED, Arm, run_arms
from simulator.provenance import canonical
from studies.console import jsonable
from studies.quality.feature_sets import FeatureExtractor
from studies.quality.measurement import FULL_PRECISION, REAL, ImageSets, measure
from studies.quality.sampling import Generator, final_images
from studies.recipes.recipe import Prepared, Recipe, Report
from studies.recipes.task import Bits, Task
from studies.scoreboard.board import Board, Cell
from studies.scoreboard.companions import SameBudget, is_mixed
from studies.scoreboard.kinds import kind_of
from studies.scoreboard.reference import Images, Reference

RECIPE = "recipe"

_QUALITY = ("kid", "kid_difference", "frechet", "frechet_difference", "precision", "recall")

VARIABLES = {
    "final_sqnr_db": ("dB", "SQNR of the final sample, accumulated, pooled over samples"),
    "injected_sqnr_db": ("dB", "SQNR of epsilon at full precision's x_t, mean over steps of dB values"),
    **{
        f"{name}_{reference}": ("1", f"{name.replace('_', ' ')} against {reference.replace('_', ' ')}")
        for name in _QUALITY
        for reference in (REAL, FULL_PRECISION)
    },
    "bops": ("1", "bit operations of all steps per sample, over those in float32"),
    "weight_bytes": ("1", "bytes of weights, over those in float32"),
}
"""Of a cell: unit and meaning. Quality is that of samples drawn on the noise that all recipes of a seed share."""

FACTS = {
    "diverged": ("1", "1 where an optimisation was stopped as diverged or samples are not finite; else, of fits of "
                 "operands one by one, the share that diverged and kept its start"),
    "budget_share": ("1", "of a companion, bit operations over those of the recipe beside which it stands"),
}  # fmt: skip
"""Of a cell as well; nothing is gained in them."""


def measure_cell(
    board: Board, cell: Cell, reference: Reference, real: Images | None, extractor: FeatureExtractor, report: Report,
    unfinished: Path | None = None,
) -> tuple[xr.Dataset, float]:  # fmt: skip
    """The cell, and the seconds that its recipe took, which are no part of it.

    A recipe that the subject cannot have leaves NaN and, in the attributes, what it needs; one whose samples are not
    finite leaves NaN and is diverged. The attribute ``mixed`` stands where companions are asked for. Reconstruction and
    training keep what is done in ``unfinished``, and go on from there.
    """
    recipe = board.recipe(cell.recipe)
    task = Task(reference.model, reference.sampler, Bits.parse(cell.bits), batch_size=board.batch_size)
    try:
        made = recipe.prepare(task, seed=cell.seed, report=report, folder=unfinished)
    except BadInput as error:
        return _dataset(recipe, cell, {}, np.full(board.steps, math.nan), {"refused": str(error)}), 0.0
    values, steps = _measured(board, cell, reference, made, real, extractor, report)
    values = {"diverged": diverged_share(made.log), **_budget_share(made.log), **values}
    attrs = {"log": canonical(jsonable(dict(made.log)))}
    if cell.companions and is_mixed(made.network, board.steps):
        attrs["mixed"] = "yes"
    return _dataset(recipe, cell, values, steps, attrs), made.seconds


def is_current(found: xr.Dataset, recipe: Recipe) -> bool:
    """Whether a stored cell is of the recipe as it is now, and holds what cells hold now."""
    return bool(found.attrs["stages"] == canonical(recipe.config()) and {*VARIABLES, *FACTS} <= set(found))


def diverged_share(log: Mapping[str, Any]) -> float:
    """What stages say of divergence: 1 where one says that it diverged, the share where it counts operands."""
    shares = [0.0]
    for facts in log.values():
        found = facts.get("diverged", False)
        shares.append(float(found) if isinstance(found, bool) else found / facts["operands"])
    return max(shares)


def _budget_share(log: Mapping[str, Any]) -> dict[str, float]:
    spent = log.get(SameBudget.name)
    return {} if spent is None else {"budget_share": spent["bops"] / spent["budget"]}


def _measured(
    board: Board, cell: Cell, reference: Reference, made: Prepared, real: Images | None, extractor: FeatureExtractor,
    report: Report,
) -> tuple[dict[str, float], np.ndarray]:  # fmt: skip
    common: dict[str, Any] = {"seed": cell.seed, "batch_size": board.batch_size}
    (run,) = run_arms(
        [Arm(made.network, made.correction)], reference.sampler, samples=board.injected_samples, kinds=(INJECTED,),
        sites=False, reference=reference.model, progress=lambda done, total: report("injected noise", done, total),
        **common,
    )  # fmt: skip
    steps = np.asarray(sqnr_db(run, "epsilon_injected").sqnr_db.values)
    images = final_images(
        Generator(made.network.model, made.network, made.correction), reference.sampler, samples=board.samples,
        progress=lambda done, total: report("sampling", done, total), **common,
    )  # fmt: skip
    cost = account(made.network.plan, made.network.model.module, steps=board.steps)
    values = {
        "bops": cost.total_bops / (reference.float_cost.float_bops * board.steps),
        "weight_bytes": cost.weights.total / reference.float_cost.weights.baseline,
    }
    if not np.isfinite(images).all():  # never passed on to what measures images
        return {**values, "diverged": 1.0}, np.full(board.steps, math.nan)
    error = np.square(images.astype(np.float64) - reference.images).sum()
    power = np.square(reference.images, dtype=np.float64).sum()
    sets = ImageSets({FULL_PRECISION: reference.images, RECIPE: images}, reference.repeat, real)
    found = measure(sets, extractor, allow_small=board.allow_small)
    values["final_sqnr_db"] = 10 * math.log10(power / error) if error else math.inf
    values["injected_sqnr_db"] = float(steps.mean())
    for against in (REAL, FULL_PRECISION):
        if against in found.reference.values:
            at = found.sel(sample_set=RECIPE, reference=against)
            values |= {f"{name}_{against}": float(at[name]) for name in _QUALITY}
    return values, steps


def _dataset(
    recipe: Recipe, cell: Cell, values: dict[str, float], steps: np.ndarray, attrs: dict[str, str]
) -> xr.Dataset:
    data: dict[str, Any] = {
        name: ((), values.get(name, math.nan), {"units": unit, "long_name": meaning})
        for name, (unit, meaning) in (VARIABLES | FACTS).items()
    }
    data["step_sqnr_db"] = (("step",), steps, {"units": "dB", "long_name": "SQNR of epsilon at full precision's x_t"})
    coords = {"recipe": cell.recipe, "bits": cell.bits, "subject": cell.subject, "seed": cell.seed}
    return xr.Dataset(data, coords, {"stages": canonical(recipe.config()), "kind": kind_of(recipe).value, **attrs})
