"""The state of an autoencoder's training: reconstruction plus divergence, on the noise predictors' optimizer."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simulator.models.autoencoder import Autoencoder
from simulator.models.denoising import generator
from simulator.models.recipe import AutoencoderRecipe
from simulator.models.training_state import EVALUATE, State


class AutoencoderState(State[AutoencoderRecipe, Autoencoder]):
    """Training of an autoencoder; the held-out loss is the one it is trained with, on fixed draws."""

    def _build(self) -> Autoencoder:
        return Autoencoder(self.recipe.network)

    def _batch_loss(self, x0: Tensor, labels: NDArray[np.int64], random: np.random.Generator) -> Tensor:
        return self._loss(self.module, x0, random)

    @torch.no_grad()
    def _held_out_loss(self, module: Autoencoder, images: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
        return float(self._loss(module, torch.from_numpy(images), generator(self.recipe.seed, EVALUATE)))

    def _loss(self, module: Autoencoder, images: Tensor, random: np.random.Generator) -> Tensor:
        batch, _, height, width = images.shape
        shape = (batch, self.recipe.network.latent_channels, height // 2, width // 2)
        reconstruction, divergence = module(images, torch.from_numpy(random.standard_normal(shape, dtype=np.float32)))
        return (reconstruction - images).square().mean() + self.recipe.kl_weight * divergence.mean()
