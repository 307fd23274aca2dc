"""Class labels of samples, and a conditional model as a denoiser of (x, timestep).

A label belongs to a sample's index, not to its place in a batch, so that a batch cut elsewhere gives the same samples.
"""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from samplers.errors import BadInput
from samplers.guidance import guided
from samplers.loop import Denoiser
from simulator.models.dit import NULL_LABEL
from simulator.models.registry import Model


def cyclic_labels(samples: ArrayLike | range, classes: int) -> Tensor:
    """Label ``sample % classes`` of each sample index, (n,) int64: every label once in ``classes`` samples in a row."""
    return torch.as_tensor(samples if not isinstance(samples, range) else list(samples), dtype=torch.int64) % classes


def class_denoiser(model: Model, labels: Tensor, *, weight: float = 1.0) -> Denoiser:
    """The denoiser of a batch of samples with these labels.

    Args:
        model: a model with classes.
        labels: (n,) int64, from 0 to classes - 1, or ``NULL_LABEL`` for a sample without a class.
        weight: of classifier-free guidance; 1 is the conditional network alone.

    Raises:
        BadInput: a model without classes, or labels that it does not have.
    """
    if model.classes is None:
        raise BadInput("labels need a model with classes", got=f"{model.name}@{model.version}", fix="load digits-dit")
    if labels.ndim != 1 or labels.dtype != torch.int64:
        raise BadInput("labels must be (n,) int64", got=f"{tuple(labels.shape)} {labels.dtype}", fix="convert them")
    if len(labels) and (labels.min() < NULL_LABEL or labels.max() >= model.classes):
        raise BadInput(
            f"labels must be 0 to {model.classes - 1}, or {NULL_LABEL} for none",
            got=f"{int(labels.min())} to {int(labels.max())}",
            fix="choose among the model's classes",
        )
    return guided(model.module, labels, torch.tensor(NULL_LABEL), weight)
