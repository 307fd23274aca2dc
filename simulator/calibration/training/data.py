"""What a network is trained on: images of the training split, and how its own training drew from them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samplers.errors import BadInput
from simulator.models import registry
from simulator.models.digits import load_digits
from simulator.models.recipe import RECIPES, LatentRecipe, Recipe
from simulator.models.registry import Model
from simulator.models.unet import UNetConfig


@dataclass(frozen=True)
class TrainingSet:
    """Training images, and the random parts of a network's own training.

    Args:
        images: float32 (N, channels, height, width), what the network denoises: latents for a latent model.
        labels: int64 (N,), for a network that is told them.
        timestep_power: timesteps are ``T * u ** timestep_power``, u stratified in [0, 1) over a batch.
        dropout: probability of every dropout layer of the network, in training alone.
        label_dropout: probability that a label is replaced by the network's null label.

    Raises:
        BadInput: other shapes or dtypes, images that are not finite, or a probability outside [0, 1).
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None
    timestep_power: float = 1.0
    dropout: float = 0.0
    label_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.images.dtype != np.float32 or self.images.ndim != 4 or not len(self.images):
            raise BadInput(
                "training images must be float32 (N, channels, height, width)",
                got=f"{self.images.dtype} {self.images.shape}", fix="convert and reshape them",
            )  # fmt: skip
        if not np.isfinite(self.images).all():
            raise BadInput("training images must be finite", got="NaN or infinity", fix="check the data")
        if self.labels is not None and (self.labels.dtype != np.int64 or self.labels.shape != self.images.shape[:1]):
            raise BadInput(
                f"labels must be int64 ({len(self.images)},)", got=f"{self.labels.dtype} {self.labels.shape}",
                fix="give one per image",
            )  # fmt: skip
        if not self.timestep_power > 0.0:
            raise BadInput("timestep_power must be positive", got=self.timestep_power, fix="1 is uniform")
        for name in ("dropout", "label_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise BadInput(f"{name} must be in [0, 1)", got=getattr(self, name), fix="0 drops nothing")

    @property
    def digest(self) -> str:
        """SHA-256 of the images and labels."""
        digest = hashlib.sha256(f"{self.images.shape}".encode())
        digest.update(np.ascontiguousarray(self.images).tobytes())
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()

    def check(self, model: Model) -> None:
        """See that the model can be trained on it.

        Raises:
            BadInput: samples of another shape, a network that does not predict noise or has no schedule, or that takes
                conditions other than a label, or none where labels are given.
        """
        if self.images.shape[1:] != tuple(model.sample_shape):
            raise BadInput(
                f"training images must have the model's sample shape {tuple(model.sample_shape)}",
                got=self.images.shape[1:], fix="encode them for a latent model",
            )  # fmt: skip
        if model.schedule is None or model.prediction_type != "epsilon":
            raise BadInput(
                "training needs a noise predictor (epsilon) with a noise schedule",
                got=f"{model.prediction_type}, {'no' if model.schedule is None else 'a'} schedule",
                fix="choose another model",
            )
        if self.labels is None:
            return
        if len(model.conditions) != 1 or model.conditions[0].shape:
            raise BadInput(
                "labels need a network that takes a label", got=[c.name for c in model.conditions], fix="pass None"
            )
        if self.label_dropout and model.conditions[0].null is None:
            raise BadInput("label_dropout needs a null label", got=model.name, fix="pass 0")


def training_set(model: Model) -> TrainingSet:
    """What a shipped model was trained on, and how; a derived one has its origin's.

    Raises:
        BadInput: a model without such data: the exact subjects, and networks that are not shipped.
    """
    name = model.name.partition("+")[0]
    recipe = RECIPES.get(name)
    if not isinstance(recipe, Recipe) or not registry.is_shipped(name):
        shipped = ", ".join(n for n, r in RECIPES.items() if isinstance(r, Recipe))
        raise BadInput(
            "quantization-aware training needs training data, which only shipped models bring",
            got=model.name, fix=f"pass data=TrainingSet(images, ...), or choose one of {shipped}",
        )  # fmt: skip
    digits = load_digits()
    if isinstance(recipe, LatentRecipe):
        digits = registry.load_latent_space(f"{name}@{model.version}").digits(digits)
    images, labels = digits.part("train")
    network = recipe.network
    if isinstance(network, UNetConfig):
        return TrainingSet(images, None, recipe.timestep_power, network.dropout)
    return TrainingSet(images, labels, recipe.timestep_power, network.dropout, network.label_dropout)
