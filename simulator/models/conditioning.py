"""What samples are conditioned on: labels and embeddings by sample index, and classifier-free guidance.

A condition belongs to a sample's index, not to its place in a batch, so that a batch cut elsewhere gives the same
samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import ArrayLike
from safetensors import SafetensorError
from torch import Tensor

from samplers.errors import BadInput
from samplers.guidance import guided
from samplers.loop import Denoiser
from samplers.validation import require_real
from simulator.instrument.forward import Call, plain_call
from simulator.models.conditioned_call import ConditionedCall
from simulator.models.digest import tensors_digest
from simulator.models.dit import NULL_LABEL
from simulator.models.registry import Condition, Model

NULL = "null."
"""Prefix, in a file, of the name of the condition that an unconditional sample has."""

_DTYPES = (torch.float32, torch.int64, torch.bool)


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Conditions of samples by index, and the guidance weight.

    Sample i takes row i modulo the number of rows: ten labels give every class in turn, one row serves all samples.
    With a weight other than 0 and 1 the network is called once for 2n samples, the n unconditional ones first, as
    pipelines do, and its prediction is ``unconditional + weight (conditional - unconditional)``; 1 and 0 are the
    conditional and the unconditional network alone.

    Args:
        given: (rows, ...) tensors by the keyword that the network takes them under; float32, int64 or bool. All have
            the same number of rows, or one. The tensors are copied.
        null: by the same names, what an unconditional sample has, a row (...) or (rows, ...). Needed unless ``weight``
            is 1, and not for labels, whose null the model knows.
        weight: of guidance, finite.

    Raises:
        BadInput: no condition, rows that differ, another dtype, entries that are not finite, a null of another shape,
            dtype or name.
    """

    given: Mapping[str, Tensor]
    null: Mapping[str, Tensor] = field(default_factory=dict)
    weight: float = 1.0

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "weight", require_real("the guidance weight", self.weight) + 0.0)  # -0 and 0 are one weight
        for name in ("given", "null"):
            tensors = {key: _checked(key, value) for key, value in getattr(self, name).items()}
            set_field(self, name, MappingProxyType(tensors))
        rows = {len(tensor) for tensor in self.given.values() if tensor.ndim}
        if not self.given or any(not t.ndim or not len(t) for t in self.given.values()) or len(rows - {1}) > 1:
            shapes = {name: tuple(tensor.shape) for name, tensor in self.given.items()}
            raise BadInput(
                "conditions must have rows, as many in every tensor, or one",
                got=shapes or "none",
                fix="give (rows, ...) tensors",
            )
        for name, null in self.null.items():
            if name not in self.given:
                raise BadInput("a null must belong to a condition", got=repr(name), fix=f"among {list(self.given)}")
            like = self.given[name]
            if null.dtype != like.dtype or null.shape not in (like.shape, like.shape[1:]):
                raise BadInput(
                    f"the null of {name} must be {like.dtype} of shape {tuple(like.shape[1:])} or {tuple(like.shape)}",
                    got=f"{null.dtype} {tuple(null.shape)}",
                    fix="give the condition of an unconditional sample, padded to the same length",
                )

    @classmethod
    def from_file(cls, path: str | Path, *, weight: float = 1.0) -> Conditioning:
        """Read a safetensors file: a tensor for each condition, and ``null.<name>`` for what stands for none.

        Raises:
            BadInput: the file cannot be read as safetensors, or its tensors break a rule of this class.
        """
        try:
            tensors = safetensors.torch.load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise BadInput(
                "conditions must be a readable safetensors file", got=f"{path} ({error})", fix="write it again"
            ) from error
        given = {name: tensor for name, tensor in tensors.items() if not name.startswith(NULL)}
        null = {name.removeprefix(NULL): tensor for name, tensor in tensors.items() if name.startswith(NULL)}
        return cls(given, null, weight)

    @property
    def passes(self) -> int:
        """Rows of a forward pass per sample: 2 under guidance, the unconditional ones first, else 1."""
        return 1 if self.weight in (0, 1) else 2

    def config(self) -> dict[str, Any]:
        """All that determines the conditions, as plain JSON values: part of the key of every run that has some."""
        null = {} if self.weight == 1 else {NULL + name: tensor for name, tensor in self.null.items()}
        tensors = {**self.given, **null}
        digests = {name: tensors_digest({name: tensors[name]}) for name in sorted(tensors)}
        return {"guidance": self.weight, "conditions": digests}

    def of(self, model: Model, samples: ArrayLike | range) -> ConditionedCall:
        """How ``model`` is called for a batch of these samples.

        Raises:
            BadInput: a condition that the model does not take, of another shape, a label that it does not have, or
                guidance without a null.
        """
        members = torch.from_numpy(np.asarray(samples, dtype=np.int64))
        known = {condition.name: condition for condition in model.conditions}
        conditions = {}
        for name, tensor in self.given.items():
            if name not in known:
                raise BadInput(
                    f"a condition must be one that {model.name} takes: {', '.join(known) or 'none'}",
                    got=repr(name),
                    fix="name the network's own, in Model.conditions",
                )
            _check(model, known[name], tensor)
            given, null = tensor[members % len(tensor)], self._null(known[name], members)
            if self.weight == 1:
                conditions[name] = given
            else:
                conditions[name] = null if self.weight == 0 else torch.cat([null, given])
        return ConditionedCall(model.call or plain_call, conditions, len(members), self.passes, self.weight)

    def _null(self, condition: Condition, members: Tensor) -> Tensor:
        """What the unconditional passes of these samples are given; the conditions themselves where there are none."""
        tensor = self.given[condition.name]
        null = self.null.get(condition.name)
        if null is None and condition.null is not None:
            null = torch.tensor(condition.null, dtype=tensor.dtype)
        if null is None and self.weight != 1:
            raise BadInput(
                "guidance needs the condition of an unconditional sample",
                got=f"no null for {condition.name}",
                fix="give one, such as the embedding of the empty text (the same rows again for sizes)",
            )
        if null is None or null.ndim == tensor.ndim:
            rows = tensor if null is None else null
            return rows[members % len(rows)]
        return null.expand(len(members), *null.shape)


def call_for(model: Model, conditioning: Conditioning | None, samples: ArrayLike | range) -> Call | None:
    """How ``model`` is called for a batch: with the samples' conditions, or its own way without any."""
    return model.call if conditioning is None else conditioning.of(model, samples)


def conditioning_config(conditioning: Conditioning | None) -> dict[str, Any]:
    """What conditions add to a configuration: nothing where there are none, so that keys stay as they were."""
    return {} if conditioning is None else conditioning.config()


def _checked(name: str, tensor: Tensor) -> Tensor:
    """A copy of a condition."""
    rule = f"condition {name} must be a dense float32, int64 or bool tensor on the CPU"
    if not isinstance(tensor, Tensor):
        raise BadInput(rule, got=type(tensor).__name__, fix="make it one with torch.as_tensor")
    if tensor.dtype not in _DTYPES or tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise BadInput(rule, got=f"{tensor.dtype} on {tensor.device}", fix="convert it with .float() or .long()")
    if not tensor.isfinite().all():
        raise BadInput("conditions must be finite", got=f"NaN or infinity in {name}", fix="check the encoder")
    return tensor.detach().clone()


def _check(model: Model, condition: Condition, tensor: Tensor) -> None:
    """Shape of a row, and range of labels."""
    row = tensor.shape[1:]
    fits = len(row) == len(condition.shape) and all(w in (None, n) for n, w in zip(row, condition.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in condition.shape)
        raise BadInput(
            f"a row of {condition.name} must have shape ({wanted})", got=tuple(row), fix="give what the network takes"
        )
    if model.classes is None or condition != model.conditions[0]:
        return
    outside = (tensor < 0) | (tensor >= model.classes)
    if condition.null is not None:
        outside &= tensor != condition.null
    if tensor.dtype != torch.int64 or outside.any():
        none = "" if condition.null is None else f", or {condition.null} for none"
        raise BadInput(
            f"labels must be int64, 0 to {model.classes - 1}{none}",
            got=f"{tensor.dtype}, {tensor.min().item()} to {tensor.max().item()}",
            fix="choose among the model's classes",
        )


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
