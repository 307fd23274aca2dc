"""The state of a fine-tuning run: every draw is a function of (seed, step), so it is the step number and the tensors.

The data and draws of a step do not depend on the method, so that methods are compared on the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samplers.errors import BadInput
from simulator.calibration.training.data import TrainingSet
from simulator.calibration.training.settings import FineTuning
from simulator.calibration.training.student import Student
from simulator.models.checkpoint import read_tensors, write_tensors
from simulator.models.denoising import diffuse, generator, stratified, training_draw
from simulator.models.registry import Model
from simulator.models.training_state import batch_indices, dropped, warmed_cosine

# Uses of randomness, so that no two of them share a stream, nor one with the network's own training.
_ORDER, _STEP, _NOISE, _JUDGE, _BEGIN = 101, 102, 103, 104, 105

DIVERGED = 10.0
"""Times the first judgement's loss, above which a batch's loss ends the run."""

_JUDGED_AT_ONCE = 256


class Tuning:
    """A student under way.

    Args:
        student: the network and its quantizers, not yet begun.
        model: what it derives from.
        data: the training split; nothing else is ever looked at.
        settings: how.
        seed: of every draw.
        bound_to: digest of all that determines the run: a checkpoint continues only that.

    Attributes:
        step: optimizer steps done.
        losses: of every step's batch, penalty left out.
        judgements: [step, loss on the fixed draws], the first before any step.
        best_step: the lowest of them.
        diverged: whether a loss was not finite, or above ``DIVERGED`` times the first judgement's.
    """

    def __init__(
        self, student: Student, model: Model, data: TrainingSet, settings: FineTuning, seed: int, bound_to: str
    ) -> None:
        assert model.schedule is not None
        self.student, self._data, self._settings, self._seed, self._bound_to = student, data, settings, seed, bound_to
        self._abar = model.schedule.alphas_cumprod
        self._condition = model.conditions[0] if data.labels is not None else None
        drawing = torch.Generator().manual_seed(_integer(generator(seed, _BEGIN, 1)))
        student.begin(*self._fixed_draws(settings.start_samples, _BEGIN)[1:], drawing)
        self.parameters = student.parameters
        network = {name: p for name, p in self.parameters.items() if name.startswith("network.")}
        scales = [p for name, p in self.parameters.items() if name not in network]
        self._network = list(network.values())
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self._network if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in self._network if p.ndim <= 1]},
        ]
        groups = [{**group, "peak": settings.learning_rate} for group in groups if group["params"]]
        if scales:
            groups.append({"params": scales, "peak": settings.scale_rate})
        self._optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        self._judged_on = self._fixed_draws(settings.draws, _JUDGE)
        self._average = self._values() if settings.ema_decay is not None else {}
        self.step, self.best_step, self.diverged = 0, 0, False
        self.losses: list[float] = []
        self.judgements: list[list[float]] = []
        self._best = self._values()

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.diverged or self.step == self._settings.steps

    def advance(self) -> None:
        """One optimizer step; which images and draws it takes depends on (seed, step) alone."""
        settings, data, step = self._settings, self._data, self.step
        batch = batch_indices(len(data.images), settings.batch_size, step, self._seed, _ORDER)
        random = generator(self._seed, _STEP, step)
        x0 = torch.from_numpy(data.images[batch])
        timestep, noise = training_draw(tuple(x0.shape), len(self._abar), data.timestep_power, random)
        dropout_seed = _integer(random)
        given = self._given(batch, random)
        pseudo = torch.Generator().manual_seed(_integer(generator(self._seed, _NOISE, step)))
        for group in self._optimizer.param_groups:
            group["lr"] = warmed_cosine(group["peak"], step, settings.steps, settings.warmup_steps)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(dropout_seed)
            predicted = self.student.predict(diffuse(x0, noise, timestep, self._abar), timestep, given, pseudo)
        loss = (predicted - noise).square().mean()
        self.losses.append(loss.item())
        if not self.losses[-1] <= DIVERGED * self.judgements[0][1]:
            self.diverged = True
            return
        penalty = self.student.penalty()
        self._optimizer.zero_grad()
        (loss if penalty is None else loss + penalty).backward()  # type: ignore[no-untyped-call]  # torch's stub
        torch.nn.utils.clip_grad_norm_(self._network, 1.0)
        self._optimizer.step()
        self.student.project()
        self.step += 1
        if settings.ema_decay is not None:
            keep = min(settings.ema_decay, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(list(self._average.values()), list(self.parameters.values()), 1.0 - keep)

    def judge(self) -> None:
        """The loss on the fixed draws, as the engine's codes have it; kept if it is the lowest so far."""
        noise, x, timestep, given = self._judged_on
        total = 0.0
        with self._with(self._average):
            for first in range(0, len(x), _JUDGED_AT_ONCE):
                part = slice(first, first + _JUDGED_AT_ONCE)
                taken = {name: tensor[part] for name, tensor in given.items()}
                error = self.student.judge(x[part], timestep[part], taken) - noise[part]
                total += float(error.double().square().mean(dim=(1, 2, 3)).sum())
        loss = total / len(x)
        lowest = min((value for _, value in self.judgements), default=math.inf)
        self.judgements.append([self.step, loss])
        if not loss <= DIVERGED * self.judgements[0][1]:
            self.diverged = True
        elif loss < lowest:
            self.best_step, self._best = self.step, self._values(self._average)

    def take_best(self) -> None:
        """Give the student the parameters of the lowest judgement."""
        self._load(self._best)

    def write(self, path: Path) -> None:
        """Write the whole state."""
        moments = {name: self._optimizer.state[p] for name, p in self.parameters.items() if p in self._optimizer.state}
        groups = {"values": self._values(), "average": self._average, "best": self._best}
        for part in ("exp_avg", "exp_avg_sq", "step"):
            groups[part] = {name: moment[part] for name, moment in moments.items()}
        groups["log"] = {"losses": torch.tensor(self.losses, dtype=torch.float64)}
        names = ("step", "best_step", "diverged", "judgements")
        write_tensors(path, groups, {name: getattr(self, name) for name in names} | {"run": self._bound_to})

    def read(self, path: Path) -> None:
        """Take over the state that :meth:`write` left.

        Raises:
            BadInput: a broken file, or one of another run.
        """
        groups, facts = read_tensors(path)
        if facts.get("run") != self._bound_to:
            raise BadInput(
                "a checkpoint continues only the training that wrote it", got=f"{path} of another one",
                fix="choose another path",
            )  # fmt: skip
        self._load(groups["values"])
        # safetensors sorts its keys: the average's update zips with the parameters' order
        self._average = {name: groups["average"][name] for name in self._average}
        self._best = groups["best"]
        for name, parameter in self.parameters.items():
            if name in groups.get("step", {}):
                self._optimizer.state[parameter] = {p: groups[p][name] for p in ("step", "exp_avg", "exp_avg_sq")}
        self.losses = groups["log"]["losses"].tolist()
        for name in ("step", "best_step", "diverged", "judgements"):
            setattr(self, name, facts[name])

    def _fixed_draws(self, count: int, use: int) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Noise, x_t, timestep and conditions of ``count`` training images in a drawn order, timesteps stratified."""
        random = generator(self._seed, use)
        order = random.permutation(len(self._data.images))[np.arange(count) % len(self._data.images)]
        timestep = torch.from_numpy((stratified(count, random) * len(self._abar)).astype(np.int64))
        images = torch.from_numpy(self._data.images[order])
        noise = torch.from_numpy(random.standard_normal(tuple(images.shape), dtype=np.float32))
        return noise, diffuse(images, noise, timestep, self._abar), timestep, self._given(order, None)

    def _given(self, batch: NDArray[np.int64], random: np.random.Generator | None) -> dict[str, Tensor]:
        """Labels of a batch by the condition's name, some of them dropped where there is something to draw from."""
        if self._condition is None or self._data.labels is None:
            return {}
        labels = self._data.labels[batch]
        if random is not None and self._data.label_dropout:
            assert self._condition.null is not None
            labels = dropped(labels, self._data.label_dropout, self._condition.null, random)
        return {self._condition.name: torch.from_numpy(labels)}

    def _values(self, of: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in (of or self.parameters).items()}

    @torch.no_grad()
    def _load(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])

    @contextmanager
    def _with(self, values: dict[str, Tensor]) -> Iterator[None]:
        """Run with these values in place of the parameters', if there are any."""
        own = self._values() if values else {}
        if values:
            self._load(values)
        yield
        if own:
            self._load(own)


def _integer(random: np.random.Generator) -> int:
    return int(random.integers(2**62))
