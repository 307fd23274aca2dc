"""Shipped classifiers by name: weights and manifest beside those of the noise predictors, apart in ``kind``."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from simulator.models import registry
from simulator.models.checkpoint import write_bytes
from simulator.models.classifier import Classifier, ClassifierConfig


@dataclass(frozen=True)
class ShippedClassifier:
    """A trained classifier of images.

    Args:
        name: of the weights, such as digits-classifier.
        version: from 1.
        module: float32 on the CPU, in eval mode, without gradients.
        sample_shape: of one image, which lies on [-1, 1].
        weights_digest: SHA-256 of the weights file.
    """

    name: str
    version: int
    module: Classifier
    sample_shape: tuple[int, ...]
    weights_digest: str


def load_classifier(name: str = "digits-classifier", *, weights: str | Path | None = None) -> ShippedClassifier:
    """Load a classifier.

    Args:
        name: ``"digits-classifier"`` for the newest version, ``"digits-classifier@1"`` for one.
        weights: folder with manifests and weights files; the package's own if None.

    Raises:
        BadInput: no such classifier, or its files are unreadable or not those that the manifest records.
    """
    folder = registry.WEIGHTS if weights is None else Path(weights)
    stem, version = registry.resolve(name, folder, kind=registry.CLASSIFIER)
    manifest, content, digest = registry.read_weights(folder, f"{stem}@{version}")
    try:
        with torch.device("meta"):
            module = Classifier(ClassifierConfig(**manifest["config"]))
        module.load_state_dict(safetensors.torch.load(content), assign=True)
        sample_shape = tuple(int(size) for size in manifest["sample_shape"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise registry.unfit(f"{stem}@{version}", error) from error
    module.eval().requires_grad_(False)
    return ShippedClassifier(stem, version, module, sample_shape, digest)


def save_classifier(
    folder: Path,
    name: str,
    version: int,
    module: Classifier,
    training: dict[str, Any],
    *,
    sample_shape: tuple[int, ...],
) -> None:
    """Write weights (float32) and manifest in the form that :func:`load_classifier` reads."""
    state = {key: value.detach().float().contiguous() for key, value in module.state_dict().items()}
    content = safetensors.torch.save(state)
    write_bytes(folder / f"{name}@{version}.safetensors", content)
    manifest = {
        "name": name,
        "version": version,
        "kind": registry.CLASSIFIER,
        "architecture": f"{Classifier.__module__}.{Classifier.__qualname__}",
        "config": dataclasses.asdict(module.config.inference()),
        "sample_shape": list(sample_shape),
        "weights": {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "dtype": "float32"},
        "training": training,
    }
    registry.write_manifest(folder / f"{name}@{version}.json", manifest)
