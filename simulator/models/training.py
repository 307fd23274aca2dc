"""Training of the shipped models: a fixed recipe, resumable at any point with the same result as not stopping.

The weights that leave are the exponential average with the lowest held-out loss, measured on one fixed set of noises
and timesteps. Deterministic for one thread count on one machine and torch version; the default is one thread.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from samplers.errors import BadInput
from samplers.schedule import NoiseSchedule
from simulator.models import registry
from simulator.models.digits import Digits, load_digits
from simulator.models.progress import progress
from simulator.models.recipe import Recipe, recipe_for
from simulator.models.training_state import State


def train(
    name: str,
    out: str | Path,
    *,
    resume: bool = True,
    steps: int | None = None,
    recipe: Recipe | None = None,
    card: bool = True,
    threads: int = 1,
    stop_after: int | None = None,
) -> Path | None:
    """Train a model and write weights, manifest and card into ``out``; the package's own weights stay untouched.

    Args:
        name: a name of ``recipe.RECIPES``.
        out: folder, made if missing; holds the checkpoint while training runs.
        resume: continue from a checkpoint of the same recipe in ``out``, if there is one.
        steps: replaces the recipe's number of steps (the learning rate then decays over that many).
        recipe: replaces the recipe of that name altogether. Any change of recipe names the model NAME-custom.
        card: compute the model card at the end (about two minutes).
        threads: torch threads while this runs; other counts than 1 give other low bits, hence other weights.
        stop_after: leave after this many steps of this call with a checkpoint and no weights, as if interrupted.

    Returns:
        The manifest's path, or None if ``stop_after`` ended the call.

    Raises:
        BadInput: unknown name, unusable folder, weights already in it, missing scikit-learn, a checkpoint that is
            broken or of another recipe, or a recipe whose loss diverges.
    """
    standard = recipe_for(name)
    recipe = recipe or standard
    if steps is not None:
        recipe = dataclasses.replace(recipe, steps=steps)
    if recipe != standard:
        name = f"{name}-custom"
    folder = _writable(Path(out))
    manifest = folder / f"{name}@{recipe.version}.json"
    if manifest.exists():
        raise BadInput("trained weights are never replaced", got=str(manifest), fix="choose another folder")
    digits, schedule = load_digits(), NoiseSchedule()
    with _threads(threads):
        state = State(recipe)
        checkpoint = folder / f"{name}@{recipe.version}.checkpoint.safetensors"
        if resume and checkpoint.exists():
            state.read(checkpoint)
        finished = _run(state, digits, schedule, checkpoint, stop_after)
        if not finished:
            return None
        facts = {
            "recipe": dataclasses.asdict(recipe),
            "threads": threads,
            "torch": torch.__version__.split("+")[0],
            "seconds": round(state.seconds),
            "steps_run": state.step,
            "best_step": state.best_step,
            "held_out_loss": state.best_loss,
            "history": state.history,
        }
        sample_shape = digits.train.shape[1:]
        registry.save(folder, name, recipe.version, state.best(), schedule, facts, sample_shape=sample_shape)
        if card:
            from simulator.models.card import write_card

            write_card(f"{name}@{recipe.version}", folder)
    return manifest


def _run(state: State, digits: Digits, schedule: NoiseSchedule, checkpoint: Path, stop_after: int | None) -> bool:
    """Step until the recipe ends; True if it did, False if ``stop_after`` came first."""
    recipe, abar = state.recipe, schedule.alphas_cumprod
    last = None if stop_after is None else state.step + stop_after
    with progress("training", recipe.steps) as report:
        while state.step < recipe.steps and not state.stale:
            if state.step == last:
                state.write(checkpoint)
                return False
            started = time.perf_counter()
            state.advance(digits, abar)
            if state.step % recipe.evaluate_every == 0 or state.step == recipe.steps:
                state.evaluate(digits, abar)
                state.write(checkpoint)
                report(state.step, f"held-out {state.history[-1][1]:.5f} best {state.best_loss:.5f}")
            state.seconds += time.perf_counter() - started
    return True


def _writable(folder: Path) -> Path:
    """Make the output folder; never the package's own."""
    if folder.resolve() == registry.WEIGHTS.resolve():
        raise BadInput("training never overwrites the package's weights", got=folder, fix="choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInput(
            "the output must be a writable folder", got=f"{folder} ({error.strerror})", fix="choose another"
        ) from error
    return folder


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Run with ``count`` torch threads and give the caller's count back."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
