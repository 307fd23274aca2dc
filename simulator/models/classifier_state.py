"""The state of a classifier's training: cross-entropy of the labels, on the noise predictors' optimizer."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from simulator.models.classifier import Classifier
from simulator.models.recipe import ClassifierRecipe
from simulator.models.training_state import State


class ClassifierState(State[ClassifierRecipe, Classifier]):
    """Training of a classifier; the held-out loss is the cross-entropy without smoothing, of images as they are."""

    def _build(self) -> Classifier:
        return Classifier(self.recipe.network)

    def _batch_loss(self, x0: Tensor, labels: NDArray[np.int64], random: np.random.Generator) -> Tensor:
        moved = shifted(x0, random.integers(-1, 2, (len(x0), 2)), random.random(len(x0)) < self.recipe.shift)
        dropout_seed = int(random.integers(2**62))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(dropout_seed)
            logits = self.module(moved)
        return F.cross_entropy(logits, torch.from_numpy(labels), label_smoothing=self.recipe.label_smoothing)

    @torch.no_grad()
    def _held_out_loss(self, module: Classifier, images: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
        return float(F.cross_entropy(module(torch.from_numpy(images)), torch.from_numpy(labels)))


def shifted(images: Tensor, by: NDArray[np.int64], chosen: NDArray[np.bool_]) -> Tensor:
    """Images (n, c, h, w), those chosen (n,) moved by (rows, columns) of ``by`` (n, 2), -1 to 1, onto black (-1)."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (1, 1, 1, 1), value=-1.0)
    at = np.where(chosen[:, None], 1 - by, 1)
    return torch.stack(
        [image[:, row : row + height, column : column + width] for image, (row, column) in zip(padded, at, strict=True)]
    )
