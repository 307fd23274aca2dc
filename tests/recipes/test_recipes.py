"""Claim: a recipe is data that says all it does, does the same for the same seed, and refuses what it cannot do."""

from __future__ import annotations

import dataclasses
import json
import sys
from contextlib import suppress

import numpy as np
import pytest
from same_function import small_dit

from samplers import DDIM, DDPM, BadInput, NoiseSchedule
from simulator import Arm, Scheme, run_arms
from simulator.calibration.intervals.fitting import IntervalFit
from simulator.calibration.search import LpSearch, PercentileSearch
from simulator.calibration.training.settings import FineTuning
from simulator.models.registry import Model, load
from studies import cli
from studies.recipes import known
from studies.recipes.catalogue import find, shipped
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.collected import CollectedRanges
from studies.recipes.stages.correction import FitCorrection
from studies.recipes.stages.head_groups import HeadGroupedRanges
from studies.recipes.stages.intervals import FitIntervals
from studies.recipes.stages.ranges import Steps, TrajectoryRanges
from studies.recipes.stages.reconstruction import Reconstruct
from studies.recipes.stages.scheme import UseScheme
from studies.recipes.stages.training import FineTune
from studies.recipes.stages.transforms import RescaleNorms
from studies.recipes.task import Bits, Task

SAMPLER = DDIM(NoiseSchedule(), 4, 1.0)
SOURCE = Source("a paper", "somebody", "somewhere")


TINY = FineTuning(steps=2, batch_size=8, warmup_steps=1, evaluate_every=2, draws=16, start_samples=16)

HEAVY = Reconstruct | FineTune | FitIntervals | HeadGroupedRanges


def by_weight() -> list:
    """Every recipe, those that optimise something among the slow tests."""
    return [
        pytest.param(name, marks=[pytest.mark.slow] if any(isinstance(s, HEAVY) for s in recipe.stages) else [])
        for name, recipe in shipped().items()
    ]


def small(recipe: Recipe) -> Recipe:
    """The recipe on few samples and iterations."""

    def shrunk(stage):
        changes = {"samples": 16} if hasattr(stage, "samples") else {}
        if isinstance(stage, Reconstruct):
            learn = {
                name: dataclasses.replace(how, iterations=2, batch_size=8)
                for name in ("roundings", "scales")
                if (how := getattr(stage.method, name)) is not None
            }
            changes["method"] = dataclasses.replace(stage.method, **learn)
        if hasattr(stage, "points"):
            changes["points"] = dataclasses.replace(stage.points, samples=16, observed=8)
        if isinstance(stage, FineTune):
            changes["settings"] = TINY
        if isinstance(stage, FitIntervals):
            changes["fit"] = IntervalFit(iterations=2)
        if isinstance(stage, RescaleNorms):
            changes["observer"] = PercentileSearch(bins=256)
        return dataclasses.replace(stage, **changes)

    return dataclasses.replace(recipe, stages=tuple(map(shrunk, recipe.stages)))


def fitting(recipe: Recipe, tiny_model) -> Model:
    """A model that the recipe can have: the tiny one, a small transformer, or the shipped convolutional one."""
    for model in (tiny_model, small_dit(), load("digits-unet")):
        with suppress(BadInput):
            recipe.require(Task(model, SAMPLER, Bits.parse("w4a8"), batch_size=16))
            return model
    raise AssertionError(f"nothing fits {recipe.name}")


@pytest.mark.parametrize("name", shipped())
def test_recipe__says_what_it_is(name: str) -> None:
    recipe = shipped()[name]
    assert json.loads(json.dumps(recipe.config())) == recipe.config()
    assert (recipe.source.title, recipe.source.authors, recipe.source.venue) > ("", "", "")
    assert recipe.summary.endswith(".")
    assert all(text.endswith(".") for text in recipe.deviations)


def test_catalogue__has_a_recipe_per_file_and_a_file_per_recipe() -> None:
    import pkgutil

    files = {found.name for found in pkgutil.iter_modules(known.__path__)}
    assert files == {name.replace("-", "_") for name in shipped()}
    assert len({json.dumps(recipe.config()["stages"]) for recipe in shipped().values()}) == len(shipped())


@pytest.mark.parametrize("name", by_weight())
def test_recipe__gives_the_same_bytes_for_the_same_seed_and_others_for_another(tiny_model, one_thread, name) -> None:
    task = Task(fitting(shipped()[name], tiny_model), SAMPLER, Bits.parse("w4a8"), batch_size=16)

    def result(seed: int) -> np.ndarray:
        made = small(shipped()[name]).prepare(task, seed=seed)
        (run,) = run_arms(
            [Arm(made.network, made.correction)], SAMPLER, samples=8, sites=False, reference=made.reference
        )
        return run.state_accumulated.values

    first = result(0)
    assert first.tobytes() == result(0).tobytes()
    assert np.isfinite(first).all()
    if name != "dynamic-max":  # which fits nothing
        assert first.tobytes() != result(1).tobytes()


def test_quick__shortens_what_is_long_and_nothing_else() -> None:
    for name, recipe in shipped().items():
        long = [isinstance(stage, Reconstruct | FineTune) for stage in recipe.stages]
        pairs = zip(recipe.stages, recipe.quick().stages, strict=True)
        assert [one.config() != other.config() for one, other in pairs] == long, name


@pytest.mark.parametrize("name", ["brecq", "qdrop", "q-diffusion"])
def test_recipe__learns_scales_from_those_of_least_error(name: str) -> None:
    """A scale moves by a factor of 0.64 at most in the full preset: at 4 bits that is not the way from the extremes."""
    *_, before, stage = shipped()[name].stages
    assert isinstance(stage, Reconstruct)
    assert isinstance(before, CollectedRanges)
    learn = stage.method.scales
    assert learn is not None
    assert learn.iterations * learn.learning_rate / 2 == pytest.approx(-np.log(0.64), abs=0.01)  # the cosine's sum
    assert before.observer == LpSearch(learn.p)


@pytest.mark.parametrize("name", ["adaround", pytest.param("lsq", marks=pytest.mark.slow), "fine-tuned"])
def test_recipe__goes_on_where_it_was_stopped(tiny_model, one_thread, tmp_path, name) -> None:
    model = tiny_model if name == "adaround" else load("digits-unet")
    recipe, bits = small(shipped()[name]), ("w4a8", "w8a8") if name == "fine-tuned" else ("w4a8",)
    whole = [recipe.prepare(Task(model, SAMPLER, Bits.parse(text), batch_size=16)) for text in bits]
    long, heard = {"adaround": "reconstruction (adaround)"}.get(name, "training"), []

    def stop(what: str, done: int, total: int) -> None:
        if what == long and done == (5 if name == "adaround" else total):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recipe.prepare(Task(model, SAMPLER, Bits.parse(bits[0]), batch_size=16), report=stop, folder=tmp_path / "new")
    for text, expected in zip(bits, whole, strict=True):
        task, heard = Task(model, SAMPLER, Bits.parse(text), batch_size=16), []
        again = recipe.prepare(task, report=lambda *at, to=heard: to.append(at), folder=tmp_path / "new")
        begun = next((done for what, done, _ in heard if what == long), None)
        assert begun == (2 if name == "adaround" else None)  # a whole unit; a control of one width serves all
        assert again.log == expected.log
        assert again.network.model.weights_digest == expected.network.model.weights_digest


def test_stages__do_what_they_say(tiny_model, one_thread) -> None:
    task = Task(tiny_model, SAMPLER, Bits(4, 8), batch_size=16)
    stages = (UseScheme("w{w}g8a{a}-dyn"), TrajectoryRanges(16, steps=Steps.EACH))
    made = Recipe("mine", "Mine.", SOURCE, stages).prepare(task)
    assert made.network.scheme == Scheme.parse("w4g8a8-dyn")
    assert [s.name for s in made.network.ranges.steps.sets] == ["0", "1", "2", "3"]
    noisiest = Recipe("mine", "Mine.", SOURCE, (TrajectoryRanges(16, steps=Steps.NOISIEST),)).prepare(task)
    assert noisiest.network.ranges.steps.sets[0].observed == (0,)
    assert made.reference is tiny_model
    assert made.seconds > 0


def test_recipe__reports_its_work(tiny_model, one_thread) -> None:
    heard = []
    task = Task(tiny_model, SAMPLER, Bits(8, 8), batch_size=16)
    small(shipped()["ptqd"]).prepare(task, report=lambda what, done, total: heard.append((what, done, total)))
    assert [what for what, done, total in heard if done == total] == ["calibrating ranges", "fitting the correction"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Bits.parse("w4g64a8"), "written as w4a8"),
        (lambda: Bits(1, 8), "bits of weights"),
        (lambda: Bits(8, 17), "2 to 16"),
        (lambda: Recipe("", "Mine.", SOURCE, (TrajectoryRanges(),)), "a name and stages"),
        (lambda: Recipe("mine", "Mine.", SOURCE, ()), "a name and stages"),
        (lambda: FitCorrection("ptqdd"), "correction must be one of"),
        (lambda: FitCorrection("ptqd", 4), "at least 8"),
        (lambda: find("ptqq"), "one of ptqd"),
        (lambda: find("json:RECIPE"), "written module:NAME"),
        (lambda: find("json:dumps"), "must be a Recipe"),
    ],
)
def test_recipe__refuses_bad_input(make, says) -> None:
    with pytest.raises(BadInput, match=says):
        make()


def test_recipe__refuses_before_the_work_what_it_cannot_do(tiny_model) -> None:
    clipping = Task(tiny_model, DDPM(NoiseSchedule(), 4, clip_sample=True), Bits(8, 8))
    with pytest.raises(BadInput, match="absorption needs a linear update"):
        shipped()["ptqd"].prepare(clipping, report=lambda *_: pytest.fail("work began"))
    with pytest.raises(BadInput, match="must calibrate ranges"):
        Recipe("mine", "Mine.", SOURCE, (UseScheme(),)).prepare(Task(tiny_model, SAMPLER, Bits(8, 8)))


def qnoise(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["qnoise", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def test_methods__lists_all_shows_one_and_finds_your_own(monkeypatch, capsys, tmp_path) -> None:
    assert qnoise(monkeypatch, "methods", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [recipe["name"] for recipe in listed] == list(shipped())
    assert qnoise(monkeypatch, "methods") == 0
    table = capsys.readouterr().out
    assert all(name in table for name in shipped())
    assert qnoise(monkeypatch, "methods", "show", "ptqd") == 0
    shown = capsys.readouterr().out
    assert "2. correction: correction ptqd, samples 1024" in shown
    assert all(deviation in shown for deviation in shipped()["ptqd"].deviations)
    (tmp_path / "my_recipe.py").write_text(
        "from studies.recipes.recipe import Recipe, Source\n"
        "from studies.recipes.stages.ranges import TrajectoryRanges\n"
        "MINE = Recipe('mine', 'Mine.', Source('t', 'a', 'v'), (TrajectoryRanges(32),))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert qnoise(monkeypatch, "methods", "show", "my_recipe:MINE", "--json") == 0
    assert json.loads(capsys.readouterr().out)["stages"][0]["samples"] == 32
    assert qnoise(monkeypatch, "methods", "show", "nothing") == 2
    assert "there must be a recipe of that name" in capsys.readouterr().err
