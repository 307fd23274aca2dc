"""Training of the shipped models: a fixed recipe, resumable at any point with the same result as not stopping.

The weights that leave are the exponential average with the lowest held-out loss, measured on one fixed set of noises
and timesteps. Deterministic for one thread count on one machine and torch version; the default is one thread.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from samplers.errors import BadInput
from samplers.schedule import NoiseSchedule
from simulator.models import registry
from simulator.models.autoencoder_state import AutoencoderState
from simulator.models.classifier_state import ClassifierState
from simulator.models.digits import Digits, load_digits
from simulator.models.latent_space import LatentSpace
from simulator.models.progress import progress
from simulator.models.recipe import ClassifierRecipe, LatentRecipe, Recipe, recipe_for
from simulator.models.shipped_classifier import save_classifier
from simulator.models.training_state import DenoiserState, State
from simulator.threads import torch_threads


def train(
    name: str,
    out: str | Path,
    *,
    resume: bool = True,
    steps: int | None = None,
    recipe: Recipe | ClassifierRecipe | None = None,
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
            A latent model's autoencoder, which is trained first, keeps its own.
        recipe: replaces the recipe of that name altogether. Any change of recipe names the model NAME-custom.
        card: compute the model card at the end (about two minutes; seconds for a classifier).
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
    stem = f"{name}@{recipe.version}"
    if isinstance(recipe, ClassifierRecipe):
        with torch_threads(threads):
            return _train_classifier(name, recipe, digits, folder, resume, stop_after, card, threads)
    with torch_threads(threads):
        space, data, budget = None, digits, stop_after
        if isinstance(recipe, LatentRecipe):
            first = AutoencoderState(recipe.autoencoder)
            checkpoint = folder / f"{stem}.autoencoder.checkpoint.safetensors"
            done = _run("training autoencoder", first, digits, checkpoint, resume, stop_after)
            if done is None:
                return None
            budget = None if stop_after is None else stop_after - done
            space = LatentSpace.fit(first.best(), digits.train)
            data = space.digits(digits)
        state = DenoiserState(recipe, schedule.alphas_cumprod, "" if space is None else space.digest)
        if _run("training", state, data, folder / f"{stem}.checkpoint.safetensors", resume, budget) is None:
            return None
        if space is not None:
            registry.save_latent_space(folder, name, recipe.version, space, _facts(first, threads))
        sample_shape = data.train.shape[1:]
        facts = _facts(state, threads)
        registry.save(
            folder, name, recipe.version, state.best(), schedule, facts, sample_shape=sample_shape, space=space
        )
        if card:
            from simulator.models.card import write_card

            write_card(stem, folder)
    return manifest


def _train_classifier(
    name: str,
    recipe: ClassifierRecipe,
    digits: Digits,
    folder: Path,
    resume: bool,
    stop_after: int | None,
    card: bool,
    threads: int,
) -> Path | None:
    """Train a classifier; the manifest's path, or None if ``stop_after`` ended the call."""
    stem = f"{name}@{recipe.version}"
    state = ClassifierState(recipe)
    if _run("training", state, digits, folder / f"{stem}.checkpoint.safetensors", resume, stop_after) is None:
        return None
    shape = digits.train.shape[1:]
    save_classifier(folder, name, recipe.version, state.best(), _facts(state, threads), sample_shape=shape)
    if card:
        from simulator.models.card_classifier import write_classifier_card

        write_classifier_card(stem, folder)
    return folder / f"{stem}.json"


def _facts(state: State, threads: int) -> dict[str, Any]:
    """What a manifest tells of its training."""
    return {
        "recipe": dataclasses.asdict(state.recipe),
        "threads": threads,
        "torch": torch.__version__.split("+")[0],
        "seconds": round(state.seconds),
        "steps_run": state.step,
        "best_step": state.best_step,
        "held_out_loss": state.best_loss,
        "history": state.history,
    }


def _run(
    title: str, state: State, digits: Digits, checkpoint: Path, resume: bool, stop_after: int | None
) -> int | None:
    """Step until the recipe ends; the steps of this call, or None if ``stop_after`` of them came first."""
    recipe = state.recipe
    if resume and checkpoint.exists():
        state.read(checkpoint)
    begun = state.step
    with progress(title, recipe.steps) as report:
        while state.step < recipe.steps and not state.stale:
            if stop_after is not None and state.step == begun + stop_after:
                state.write(checkpoint)
                return None
            started = time.perf_counter()
            state.advance(digits)
            if state.step % recipe.evaluate_every == 0 or state.step == recipe.steps:
                state.evaluate(digits)
                state.write(checkpoint)
                report(state.step, f"held-out {state.history[-1][1]:.5f} best {state.best_loss:.5f}")
            state.seconds += time.perf_counter() - started
    return state.step - begun


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
