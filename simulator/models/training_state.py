"""The state of a training run: every draw is a function of (seed, step), so it is the step number and the tensors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samplers.errors import BadInput
from simulator.models.architectures import Network, NetworkConfig, build
from simulator.models.checkpoint import read_tensors, write_tensors
from simulator.models.denoising import denoising_losses, diffuse, generator, training_draw
from simulator.models.digits import Digits
from simulator.models.dit import NULL_LABEL
from simulator.models.recipe import Optimization, Recipe
from simulator.models.unet import UNetConfig

R = TypeVar("R", bound=Optimization)
N = TypeVar("N", bound=nn.Module)

# Uses of randomness, so that no two of them share a stream.
_ORDER, _STEP, EVALUATE = 1, 2, 3
HELD_OUT_BINS = 8


class State(ABC, Generic[R, N]):
    """The network, its average, the optimizer and the best average so far: all that a checkpoint holds.

    Args:
        recipe: how the network is trained.
        data_digest: of what the data were made with, where the recipe does not tell.
    """

    def __init__(self, recipe: R, data_digest: str = "") -> None:
        self.recipe = recipe
        self._bound_to = recipe.digest + data_digest
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.module = self._build()
        self.parameters = dict(self.module.named_parameters())
        decayed = [p for p in self.parameters.values() if p.ndim > 1]
        plain = [p for p in self.parameters.values() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=0.0,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.average = {key: value.detach().clone() for key, value in self.parameters.items()}
        self.best_average = {key: value.clone() for key, value in self.average.items()}
        self.step, self.best_step, self.best_loss, self.seconds = 0, 0, math.inf, 0.0
        self.history: list[list[float]] = []

    @property
    def stale(self) -> bool:
        """Whether the held-out loss has stopped falling."""
        return self.step >= self.best_step + self.recipe.patience * self.recipe.evaluate_every

    @abstractmethod
    def _build(self) -> N:
        """A new network, its weights drawn from torch's global generator."""

    @abstractmethod
    def _batch_loss(self, x0: Tensor, labels: NDArray[np.int64], random: np.random.Generator) -> Tensor:
        """Loss of a batch of images; every draw from ``random``."""

    @abstractmethod
    def _held_out_loss(self, module: N, images: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
        """Loss of a network in eval mode on the held-out part, on draws that are fixed by the seed."""

    def best(self) -> N:
        """A network with the best average so far, in eval mode."""
        return self._with(self.best_average)

    def advance(self, digits: Digits) -> None:
        """One optimizer step; which images and which draws it takes depends on (seed, step) alone."""
        images, labels = digits.part("train")
        recipe, step = self.recipe, self.step
        random = generator(recipe.seed, _STEP, step)
        batch = batch_indices(len(images), recipe.batch_size, step, recipe.seed, _ORDER)
        for group in self.optimizer.param_groups:
            group["lr"] = warmed_cosine(recipe.learning_rate, step, recipe.steps, recipe.warmup_steps)
        self.module.train()
        loss = self._batch_loss(torch.from_numpy(images[batch]), labels[batch], random)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(recipe.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1.0 - keep)

    def evaluate(self, digits: Digits) -> None:
        """Measure the average on the fixed held-out set and keep it if it is the best so far."""
        loss = self._held_out_loss(self._with(self.average), *digits.part("held_out"))
        if not math.isfinite(loss):
            raise BadInput("the held-out loss must stay finite", got=f"{loss} at step {self.step}", fix="learn slower")
        self.history.append([self.step, loss])
        if loss < self.best_loss:
            self.best_loss, self.best_step = loss, self.step
            self.best_average = {key: value.clone() for key, value in self.average.items()}

    def write(self, path: Path) -> None:
        """Write the whole state."""
        moments = {key: self.optimizer.state[p] for key, p in self.parameters.items() if p in self.optimizer.state}
        groups: dict[str, dict[str, Tensor]] = {
            "model": {key: p.detach() for key, p in self.parameters.items()},
            "average": self.average,
            "best": self.best_average,
        }
        for part in ("exp_avg", "exp_avg_sq", "step"):
            groups[part] = {key: moment[part] for key, moment in moments.items()}
        facts = {name: getattr(self, name) for name in ("step", "best_step", "best_loss", "seconds", "history")}
        write_tensors(path, groups, facts | {"recipe": self._bound_to})

    def read(self, path: Path) -> None:
        """Take over the state that :meth:`write` left."""
        groups, facts = read_tensors(path)
        if facts.get("recipe") != self._bound_to:
            raise BadInput(
                "a checkpoint continues only the recipe and steps that wrote it",
                got=f"{path} of another recipe",
                fix="choose another output folder, or train with resume=False",
            )
        self.module.load_state_dict(groups["model"])
        self.average, self.best_average = groups["average"], groups["best"]
        # safetensors sorts its keys: bring them back to the parameters' order, which the average's update zips with.
        self.average = {key: self.average[key] for key in self.parameters}
        for key, parameter in self.parameters.items():
            if "step" in groups:
                self.optimizer.state[parameter] = {p: groups[p][key] for p in ("step", "exp_avg", "exp_avg_sq")}
        for name in ("step", "best_step", "best_loss", "seconds", "history"):
            setattr(self, name, facts[name])

    def _with(self, weights: dict[str, Tensor]) -> N:
        with torch.device("meta"):
            module = self._build()
        module.load_state_dict(weights, assign=True)
        return module.eval()


class DenoiserState(State[Recipe, Network]):
    """Training of a noise predictor under a schedule's ``alphas_cumprod``.

    Args:
        recipe: how.
        alphas_cumprod: of the schedule, (timesteps,).
        data_digest: of what the images were made with, where they are not the digits themselves.
    """

    def __init__(self, recipe: Recipe, alphas_cumprod: NDArray[np.floating[Any]], data_digest: str = "") -> None:
        super().__init__(recipe, data_digest)
        self.alphas_cumprod = alphas_cumprod

    def _build(self) -> Network:
        return build(self.recipe.network)

    def _batch_loss(self, x0: Tensor, labels: NDArray[np.int64], random: np.random.Generator) -> Tensor:
        recipe, abar = self.recipe, self.alphas_cumprod
        timestep, noise = training_draw(tuple(x0.shape), len(abar), recipe.timestep_power, random)
        dropout_seed = int(random.integers(2**62))
        given = training_labels(recipe.network, labels, random)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(dropout_seed)
            return (self.module(diffuse(x0, noise, timestep, abar), timestep, *given) - noise).square().mean()

    def _held_out_loss(self, module: Network, images: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
        losses = denoising_losses(
            module,
            images,
            self.alphas_cumprod,
            bins=HELD_OUT_BINS,
            seed=self.recipe.seed + EVALUATE,
            labels=None if self.recipe.network.classes is None else labels,
        )
        return float(losses.mean())


def training_labels(
    network: NetworkConfig, labels: NDArray[np.int64], random: np.random.Generator
) -> tuple[Tensor, ...]:
    """What a network is trained with beside x and timestep: nothing, or labels of which some are dropped.

    Each of the labels (N,) is ``NULL_LABEL`` with probability ``label_dropout``, on its own; one uniform number is
    drawn for each, and none for a network without classes.
    """
    if isinstance(network, UNetConfig):
        return ()
    return (torch.from_numpy(dropped(labels, network.label_dropout, NULL_LABEL, random)),)


def dropped(labels: NDArray[np.int64], probability: float, null: int, random: np.random.Generator) -> NDArray[np.int64]:
    """The labels (N,), each replaced by ``null`` with the given probability; N uniform numbers are drawn."""
    return np.where(random.random(len(labels)) < probability, null, labels)


def batch_indices(count: int, batch_size: int, step: int, *key: int) -> NDArray[np.int64]:
    """Indices of the images of a step: consecutive places in the sequence of all epochs' permutations, drawn by key."""
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    orders = {int(e): generator(*key, int(e)).permutation(count) for e in np.unique(places // count)}
    return np.array([orders[int(place // count)][place % count] for place in places])


def warmed_cosine(peak: float, step: int, steps: int, warmup_steps: int) -> float:
    """Learning rate: linear warm-up to ``peak``, times half a cosine down to 0 at the last step."""
    warm = min(1.0, (step + 1) / warmup_steps)
    return peak * warm * 0.5 * (1.0 + math.cos(math.pi * step / steps))
