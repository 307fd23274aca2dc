"""Training recipes as values: everything that decides the weights, and nothing that does not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field

from samplers.errors import BadInput
from simulator.models.architectures import NetworkConfig
from simulator.models.autoencoder import AutoencoderConfig
from simulator.models.classifier import ClassifierConfig
from simulator.models.dit import DiTConfig
from simulator.models.unet import UNetConfig


@dataclass(frozen=True)
class Optimization:
    """How a network is optimized, whatever it learns.

    Args:
        version: version of the weights that this recipe makes.
        steps: optimizer steps of the full cosine decay.
        batch_size: images per step, taken from a fresh permutation of the training part per epoch.
        learning_rate: peak of the AdamW learning rate, reached after ``warmup_steps``, then a cosine down to 0.
        weight_decay: decoupled, on weights of convolutions and linear layers only.
        ema_decay: of the weights' exponential average, min(ema_decay, (1 + step) / (10 + step)) at each step.
        evaluate_every: steps between two held-out losses.
        patience: evaluations without a new best held-out loss after which training stops.
        seed: of the initial weights and of every draw.
    """

    version: int = 1
    steps: int = 10_000
    batch_size: int = 64
    learning_rate: float = 3e-3
    warmup_steps: int = 300
    weight_decay: float = 0.01
    ema_decay: float = 0.998
    evaluate_every: int = 500
    patience: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "evaluate_every", "patience"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} must be at least 1", got=getattr(self, name), fix="give a positive number")

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical form; a checkpoint continues only the recipe that wrote it."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Recipe(Optimization):
    """How a noise predictor is trained.

    The defaults are those of digits-unet@1. Lowest held-out losses found on the way (2026-11-21, one seed each, on
    shared draws; the standard error over images is 0.001, of a difference much less, of a training seed unknown):

    - 4000 steps without dropout: power 1.0 gave 0.0781, 1.5 gave 0.0775 and 2.0 gave 0.0774, each with less speckle;
    - 10000 steps without dropout fell to 0.0762 at step 6000 and rose again: the network overfits 1402 images;
    - dropout 0.1 gave 0.0751 at step 8500, the recipe below; dropout 0.2 gave 0.0754;
    - dropout 0.1 with power 2.0 gave 0.0751, with weight decay 0.1 also 0.0750, and samples no nearer to the data.

    Args:
        timestep_power: timesteps are ``1000 * u ** timestep_power`` with u stratified in [0, 1) over the batch; above
            1 the small timesteps come more often, where an under-trained network leaves grey speckle.
        network: sizes of the network, with its dropouts in training.
    """

    timestep_power: float = 1.5
    network: NetworkConfig = field(default_factory=lambda: UNetConfig(dropout=0.1))


@dataclass(frozen=True)
class AutoencoderRecipe(Optimization):
    """How an autoencoder is trained: mean squared error per pixel plus ``kl_weight`` times the divergence per element.

    With 2000 steps and 2 latent channels, weights of 0.001 and 0.01 gave held-out errors of 0.0040 and 0.0060 and
    posterior deviations of 0.04 and 0.25 of the latents'; with 4 channels (as many numbers as pixels) 0.0005 and 0.0018
    (2026-11-21, one seed each).

    Args:
        kl_weight: weight of the divergence.
        network: sizes of both halves.
    """

    steps: int = 4000
    kl_weight: float = 1e-3
    network: AutoencoderConfig = field(default_factory=AutoencoderConfig)


@dataclass(frozen=True)
class ClassifierRecipe(Optimization):
    """How a classifier is trained: cross-entropy of smoothed labels, on images some of which are moved by a pixel.

    Args:
        label_smoothing: share of a label's weight that is spread over all classes.
        shift: probability that an image is moved by -1, 0 or 1 pixels along each axis.
        network: sizes, with dropout in training.
    """

    steps: int = 3000
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    evaluate_every: int = 250
    patience: int = 12
    label_smoothing: float = 0.05
    shift: float = 0.5
    network: ClassifierConfig = field(default_factory=lambda: ClassifierConfig(dropout=0.3))


@dataclass(frozen=True)
class LatentRecipe(Recipe):
    """How a noise predictor of latents is trained, on the latents of an autoencoder that is trained first.

    Args:
        autoencoder: recipe of the first stage.
    """

    autoencoder: AutoencoderRecipe = field(default_factory=AutoencoderRecipe)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network.image_channels != self.autoencoder.network.latent_channels:
            raise BadInput(
                "the network's image_channels must be the latent's channels",
                got=f"{self.network.image_channels} for {self.autoencoder.network.latent_channels}",
                fix="make them equal",
            )


RECIPES: dict[str, Recipe | ClassifierRecipe] = {
    "digits-unet": Recipe(),
    "digits-dit": Recipe(steps=8000, learning_rate=2e-3, network=DiTConfig(dropout=0.1, label_dropout=0.1)),
    "digits-latent": LatentRecipe(
        network=UNetConfig(image_channels=2, channels=(32, 48), time_channels=64, dropout=0.1)
    ),
    "digits-classifier": ClassifierRecipe(),
}


def recipe_for(name: str) -> Recipe | ClassifierRecipe:
    """The recipe of a model name."""
    if name not in RECIPES:
        raise BadInput("there must be a recipe for the model", got=repr(name), fix=f"available: {', '.join(RECIPES)}")
    return RECIPES[name]
