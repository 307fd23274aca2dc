"""Quantization-aware training of a model, from its full-precision weights to a network that the engine runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from samplers.errors import BadInput
from samplers.validation import require_int
from simulator.calibration.training.data import TrainingSet, training_set
from simulator.calibration.training.methods import Control, Method
from simulator.calibration.training.settings import FULL, FineTuning
from simulator.calibration.training.student import Student
from simulator.calibration.training.trained import Trained, derived, log_of
from simulator.calibration.training.tuning import Tuning
from simulator.instrument.scheme.scheme import Scheme
from simulator.instrument.sites import watching
from simulator.models.registry import Model
from simulator.provenance import canonical, model_config
from simulator.threads import torch_threads

PURPOSE = "train"
"""What the draws are for: those of a run's noise streams have other keys altogether."""


def fine_tune(
    model: Model,
    scheme: Scheme,
    method: Method | Control,
    settings: FineTuning = FULL,
    *,
    seed: int = 0,
    data: TrainingSet | None = None,
    threads: int = 1,
    checkpoint: str | Path | None = None,
    stop_after: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Trained | None:
    """Train ``model`` further on the denoising loss, its contractions on the values of the scheme's codes.

    The loss, its data and draws are those of the model's own training, on the training split alone. The weights that
    are given are those of the lowest loss on one fixed set of draws: ``settings.draws`` training images, each with its
    noise and its timestep, timesteps stratified over the schedule, judged in eval mode before the first step, every
    ``evaluate_every`` steps and at the end. Deterministic for one thread count on one machine and torch version.

    Args:
        model: the network in full precision; left as it is.
        scheme: bits of every site and role; a control takes no part of it.
        method: the quantizers that are learned, or :class:`Control`.
        settings: how long and how fast.
        seed: of every draw. Draws depend on seed and step alone, so methods with one seed see the same data.
        data: the training split; that of a shipped model if None.
        threads: torch threads while this runs.
        checkpoint: file that holds the state at each judgement; an existing one of the same training is continued.
        stop_after: leave after this many steps of this call, with the checkpoint written, as if interrupted.
        progress: called after each step with (steps done, steps in all).

    Returns:
        The result, or None if ``stop_after`` ended the call.

    Raises:
        BadInput: no training data, data or a scheme that do not fit, a first loss that is not finite, or a checkpoint
            of another training.
    """
    require_int("seed", seed, 0)
    require_int("threads", threads, 1)
    data = training_set(model) if data is None else data
    data.check(model)
    if stop_after is not None:
        require_int("stop_after", stop_after, 0)
        if checkpoint is None:
            raise BadInput("stop_after needs a checkpoint to stop at", got="none", fix="pass checkpoint=")
    with torch_threads(threads):
        described = _described(model, scheme, method, settings, seed, data)
        student = Student(model, scheme, method, dropout=data.dropout)
        bound_to = hashlib.sha256(canonical(described).encode()).hexdigest()
        tuning = Tuning(student, model, data, settings, seed, bound_to)
        path = None if checkpoint is None else Path(checkpoint)
        with watching(student.module):
            if not _run(tuning, settings, path, stop_after, progress):
                return None
            tuning.take_best()
            name = f"{method.config()['method']}-{bound_to[:8]}"
            found = derived(model, student, name)
        log = log_of(tuning.losses, tuning.judgements, tuning.best_step, tuning.diverged)
        ended = {"chosen_step": log.chosen_step, "diverged": log.diverged}
        source = {**model_config(found), "training": {**described, **ended}}
    return Trained(found, log, source, student)


def _run(
    tuning: Tuning,
    settings: FineTuning,
    path: Path | None,
    stop_after: int | None,
    progress: Callable[[int, int], None] | None,
) -> bool:
    """Step until the settings end; whether they did, and not ``stop_after``."""
    if path is not None and path.exists():
        tuning.read(path)
    if not tuning.judgements:
        tuning.judge()
        if tuning.diverged:
            raise BadInput(
                "the first loss must be finite", got=tuning.judgements[0][1], fix="check the model, or use more bits"
            )
    begun = tuning.step
    while not tuning.done:
        if stop_after is not None and path is not None and tuning.step == begun + stop_after:
            tuning.write(path)
            return False
        tuning.advance()
        if not tuning.diverged and (tuning.step % settings.evaluate_every == 0 or tuning.done):
            tuning.judge()
        if path is not None and (tuning.diverged or tuning.step % settings.evaluate_every == 0 or tuning.done):
            tuning.write(path)
        if progress is not None:
            progress(tuning.step, settings.steps)
    return True


def _described(
    model: Model, scheme: Scheme, method: Method | Control, settings: FineTuning, seed: int, data: TrainingSet
) -> dict[str, Any]:
    return {
        "origin": model_config(model),
        # a control is one for every scheme
        **({} if isinstance(method, Control) else {"scheme": scheme.config()}),
        **method.config(),
        "settings": settings.config(),
        "seed": seed,
        "purpose": PURPOSE,
        "torch": torch.__version__.split("+")[0],
        "data": {
            "sha256": data.digest,
            "timestep_power": data.timestep_power,
            "dropout": data.dropout,
            "label_dropout": data.label_dropout,
        },
    }
