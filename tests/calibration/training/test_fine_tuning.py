"""Claim: training is the model's own denoising loss on the same data for every method, resumable, and never passes on
what diverged."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
import torch

import simulator
from samplers import BadInput
from simulator.calibration.intervals.generator import TDQ
from simulator.calibration.intervals.learned_scales import ScalePerTimestep
from simulator.calibration.training.data import TrainingSet, training_set
from simulator.calibration.training.methods import LSQ, NIPQ, PACT, Control
from simulator.calibration.training.scales import RangeScales
from simulator.calibration.training.settings import FULL, PRESETS, QUICK, FineTuning
from simulator.calibration.training.train import fine_tune
from simulator.calibration.training.tuning import _ORDER, _STEP, Tuning
from simulator.instrument.scheme import Scheme
from simulator.models.denoising import diffuse, generator, training_draw
from simulator.models.training_state import batch_indices, warmed_cosine

SCHEME = Scheme.parse("w4a4")


def weights(trained) -> dict[str, torch.Tensor]:
    return trained.model.module.state_dict()


def assert_same(one, other) -> None:
    np.testing.assert_array_equal(one.log.losses, other.log.losses)
    assert one.log.judgements == other.log.judgements
    assert all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())
    learned = zip(one.student.activations.values(), other.student.activations.values(), strict=True)
    t = torch.arange(0, 1000, 77)
    for ours, theirs in learned:
        for a, b in zip(ours.parameters_at(t), theirs.parameters_at(t), strict=True):
            assert torch.equal(a, b)


class Jittered(torch.nn.Module):
    """A scale that moves at random in training mode, with a parameter in float64."""

    seeds: ClassVar[set[int]] = set()

    def __init__(self, start: float) -> None:
        super().__init__()
        self.start, self._random = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64)), None

    def draw_from(self, generator: torch.Generator) -> None:
        self._random = generator
        self.seeds.add(generator.initial_seed())

    def scale(self, timestep: torch.Tensor) -> torch.Tensor:
        moved = torch.rand(len(timestep), generator=self._random) if self.training else torch.zeros(len(timestep))
        return (self.start.abs() * (1 + 0.1 * moved) * (1 + timestep / 1000)).float()


class Jitter:
    def build(self, start: float, timesteps: int, generator: torch.Generator) -> Jittered:
        return Jittered(start)

    def config(self) -> dict:
        return {"rule": "jitter"}


METHODS = {
    "nipq": (NIPQ(scales=RangeScales(3)), None),
    "pact": (PACT(), 0.9),
    "control": (Control(), None),
    "rule": (LSQ(scales=Jitter()), 0.9),
    "dropout": (LSQ(scales=ScalePerTimestep(TDQ(layers=2, width=4, variant="released"))), None),
}


@pytest.mark.parametrize(("method", "ema"), METHODS.values(), ids=METHODS)
def test_fine_tune__resumed_is_as_not_stopped(method, ema, tiny_model, images, brief, one_thread, tmp_path) -> None:
    settings, path, seen = dataclasses.replace(brief, ema_decay=ema), tmp_path / "state.safetensors", []
    whole = fine_tune(tiny_model, SCHEME, method, settings, data=images, progress=lambda *at: seen.append(at))
    assert seen == [(n, 6) for n in range(1, 7)]
    for stop in (3, 0, 1):
        assert fine_tune(tiny_model, SCHEME, method, settings, data=images, checkpoint=path, stop_after=stop) is None
    assert_same(fine_tune(tiny_model, SCHEME, method, settings, data=images, checkpoint=path), whole)
    assert_same(fine_tune(tiny_model, SCHEME, method, settings, data=images, checkpoint=path), whole)  # a finished one
    if method.config() == LSQ(scales=Jitter()).config():
        assert len(Jittered.seeds) == 6  # one for each step, the same when resumed
    with pytest.raises(BadInput, match="only the training that wrote it"):
        fine_tune(tiny_model, SCHEME, method, settings, seed=1, data=images, checkpoint=path)


def test_fine_tune__of_a_control_is_plain_training(tiny_model, images, brief, one_thread) -> None:
    import copy

    module = copy.deepcopy(tiny_model.module).requires_grad_(True)
    decayed = [p for p in module.parameters() if p.ndim > 1]
    plain = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": brief.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.99), fused=True)
    abar, losses = tiny_model.schedule.alphas_cumprod, []
    for step in range(brief.steps):
        random = generator(0, _STEP, step)
        x0 = torch.from_numpy(images.images[batch_indices(40, 8, step, 0, _ORDER)])
        timestep, noise = training_draw((8, 1, 8, 8), 1000, 1.0, random)
        for group in optimizer.param_groups:
            group["lr"] = warmed_cosine(brief.learning_rate, step, brief.steps, brief.warmup_steps)
        loss = (module(diffuse(x0, noise, timestep, abar), timestep) - noise).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    trained = fine_tune(tiny_model, SCHEME, Control(), dataclasses.replace(brief, evaluate_every=6), data=images)
    assert trained.log.losses.tolist() == losses
    assert trained.log.chosen_step == 6
    assert all(torch.equal(value, dict(module.named_parameters())[name]) for name, value in weights(trained).items())


def test_fine_tune__of_one_range_is_lsq_to_the_bit(tiny_model, images, brief, one_thread) -> None:
    lsq = fine_tune(tiny_model, SCHEME, LSQ(), brief, data=images)
    assert_same(fine_tune(tiny_model, SCHEME, LSQ(scales=RangeScales(1)), brief, data=images), lsq)
    many = fine_tune(tiny_model, SCHEME, LSQ(scales=RangeScales(7)), brief, data=images)
    assert many.log.losses[0] == lsq.log.losses[0]  # the same scales, data and draws at first
    assert many.log.losses[-1] != lsq.log.losses[-1]


def test_fine_tune__learns(tiny_model, images, brief, one_thread) -> None:
    settings = dataclasses.replace(brief, steps=30, evaluate_every=15)
    for method in (LSQ(), PACT(), NIPQ()):
        log = fine_tune(tiny_model, SCHEME, method, settings, data=images).log
        judged = dict(log.judgements)
        assert judged[log.chosen_step] == min(judged.values()) < 0.9 * judged[0]


def test_fine_tune__pulls_pacts_bounds_down(tiny_model, images, brief, one_thread) -> None:
    free, pulled = (fine_tune(tiny_model, SCHEME, PACT(decay=d), brief, data=images).student for d in (0.0, 1.0))
    for (key, quantizer), other in zip(free.activations.items(), pulled.activations.values(), strict=True):
        assert other.bounds()[1] < quantizer.bounds()[1], key


def test_fine_tune__gives_every_method_the_same_batches(tiny_model, images, brief, one_thread, monkeypatch) -> None:
    from simulator.calibration.training.student import Student

    seen: dict[str, list] = {}
    predict = Student.predict

    def spy(self, x, timestep, given, noise):
        seen.setdefault(type(self._method).__name__, []).append((x.clone(), timestep.clone()))
        return predict(self, x, timestep, given, noise)

    monkeypatch.setattr(Student, "predict", spy)
    for method in (LSQ(), NIPQ(), Control()):
        fine_tune(tiny_model, SCHEME, method, brief, data=images)
    for batches in zip(*seen.values(), strict=True):
        assert all(torch.equal(a, b) for batch in batches[1:] for a, b in zip(batch, batches[0], strict=True))


@pytest.mark.parametrize("ema", [None, 0.5])
def test_fine_tune__gives_the_weights_of_the_lowest_judgement(
    ema, tiny_model, images, brief, one_thread, monkeypatch
) -> None:
    kept, take_best = [], Tuning.take_best
    monkeypatch.setattr(Tuning, "take_best", lambda self: kept.append(self) or take_best(self))
    wild = dataclasses.replace(brief, learning_rate=0.04, warmup_steps=1, steps=4, evaluate_every=1, ema_decay=ema)
    trained = fine_tune(tiny_model, SCHEME, LSQ(), wild, data=images)
    judged = dict(trained.log.judgements)
    assert list(judged) == [0, 1, 2, 3, 4]
    assert judged[trained.log.chosen_step] == min(judged.values())
    assert 0 < trained.log.chosen_step < 4  # else this shows nothing
    assert trained.ranges().source["training"]["chosen_step"] == trained.log.chosen_step
    (tuning,) = kept
    tuning._average = {}
    tuning.judge()
    assert tuning.judgements[-1][1] == min(judged.values())


def test_fine_tune__that_diverges_stops_and_gives_what_was_before(tiny_model, images, brief, one_thread) -> None:
    wild = dataclasses.replace(brief, learning_rate=3.0, warmup_steps=1, steps=50, evaluate_every=50)
    trained = fine_tune(tiny_model, SCHEME, Control(), wild, data=images)
    assert trained.log.diverged
    assert trained.source["training"]["diverged"] is True
    assert len(trained.log.losses) < 10
    assert not trained.log.losses[-1] <= 10 * trained.log.judgements[0][1]
    assert all(value.isfinite().all() for value in weights(trained).values())
    assert dict(trained.log.judgements)[trained.log.chosen_step] <= trained.log.judgements[0][1]


def test_fine_tune__averages_where_asked(tiny_model, images, brief, one_thread) -> None:
    settings = dataclasses.replace(brief, evaluate_every=6)
    plain = fine_tune(tiny_model, SCHEME, Control(), settings, data=images)
    averaged = fine_tune(tiny_model, SCHEME, Control(), dataclasses.replace(settings, ema_decay=0.99), data=images)
    np.testing.assert_array_equal(plain.log.losses, averaged.log.losses)  # the path is the same, what is judged is not
    assert plain.log.judgements[0] == averaged.log.judgements[0]
    assert plain.log.judgements[1] != averaged.log.judgements[1]


def test_fine_tune__needs_training_data(tiny_model, images, brief) -> None:
    for model in (tiny_model, simulator.load("gaussian")):
        with pytest.raises(BadInput, match="needs training data"):
            fine_tune(model, SCHEME, LSQ(), brief)
    with pytest.raises(BadInput, match="sample shape"):
        fine_tune(tiny_model, SCHEME, LSQ(), brief, data=TrainingSet(images.images[:, :, :4]))
    with pytest.raises(BadInput, match="takes a label"):
        fine_tune(tiny_model, SCHEME, LSQ(), brief, data=TrainingSet(images.images, np.zeros(40, np.int64)))
    with pytest.raises(BadInput, match="finite"):
        TrainingSet(np.full((2, 1, 8, 8), np.nan, np.float32))
    with pytest.raises(BadInput, match="stop_after needs a checkpoint"):
        fine_tune(tiny_model, SCHEME, LSQ(), brief, data=images, stop_after=1)


def test_training_set__is_the_shipped_models_own_training_split() -> None:
    from simulator.models.digits import load_digits

    digits = load_digits()
    unet, dit = (training_set(simulator.load(name)) for name in ("digits-unet", "digits-dit"))
    np.testing.assert_array_equal(unet.images, digits.train)
    assert (unet.timestep_power, unet.dropout, unet.labels) == (1.5, 0.1, None)
    np.testing.assert_array_equal(dit.labels, digits.train_labels)
    assert (dit.dropout, dit.label_dropout) == (0.1, 0.1)
    latent = simulator.load("digits-latent")
    assert training_set(latent).images.shape == (1402, *latent.sample_shape)


def test_fine_tune__trains_a_network_that_is_told_labels(brief, one_thread) -> None:
    model = simulator.load("digits-dit")
    trained = fine_tune(model, SCHEME, LSQ(), dataclasses.replace(brief, steps=2))
    table = trained.model.module.label_embedding.weight
    moved = (table != model.module.label_embedding.weight).any(dim=1)
    assert moved.sum() > 3 or trained.log.chosen_step == 0


def test_presets__are_named() -> None:
    assert (FULL.preset, QUICK.preset, FineTuning(steps=5).preset) == ("full", "quick", "custom")
    assert set(PRESETS) == {"full", "quick"}
    with pytest.raises(BadInput, match="learning_rate must be positive"):
        FineTuning(learning_rate=0.0)
    with pytest.raises(BadInput, match="steps must be"):
        FineTuning(steps=0)
