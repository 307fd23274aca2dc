"""The scales on which quality is measured: what turns images into features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from samplers.errors import BadInput
from simulator.models.digest import files_digest
from simulator.models.shipped_classifier import ShippedClassifier, load_classifier
from studies.quality.inception_network import FID, SIZE, TORCHVISION, InceptionV3

DIGITS = "digits-classifier"
_BATCH = 256


class Features(NamedTuple):
    """Features of n images, float32.

    Attributes:
        pooled: (n, d), the scale of every distance but one.
        spatial: (n, s), the scale of sFID; None where the extractor has none.
        posteriors: (n, classes), rows sum to 1, for the inception score; None where it has none.
    """

    pooled: NDArray[np.float32]
    spatial: NDArray[np.float32] | None
    posteriors: NDArray[np.float32] | None


@runtime_checkable
class FeatureExtractor(Protocol):
    """What ``module:factory`` must return: an object with these members."""

    @property
    def name(self) -> str:
        """Names the scale in every result."""
        ...

    @property
    def digest(self) -> str:
        """Tells weights apart; part of a result's key."""
        ...

    def __call__(self, images: Tensor) -> Features:
        """Features of a batch, (n, c, h, w) float32 on [-1, 1]."""
        ...


@dataclass(frozen=True)
class DigitsFeatures:
    """64 pooled and 64 spatial features of a shipped digits classifier."""

    classifier: ShippedClassifier

    @property
    def name(self) -> str:
        """Name and version of the classifier."""
        return f"{self.classifier.name}@{self.classifier.version}"

    @property
    def digest(self) -> str:
        """Of its weights file."""
        return self.classifier.weights_digest

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """Features of (n, 1, 8, 8)."""
        shape = self.classifier.sample_shape
        if tuple(images.shape[1:]) != shape:
            raise BadInput(
                f"{self.name} takes images {shape}",
                got=tuple(images.shape[1:]),
                fix="name features that fit the model: a file of Inception weights, or module:factory",
            )
        found = self.classifier.module.describe(images)
        return Features(found.pooled.numpy(), found.spatial.numpy(), found.logits.softmax(1).numpy())


@dataclass(frozen=True)
class InceptionFeatures:
    """2048 pooled and 2023 spatial features of Inception-v3, with weights from a file.

    Images of one channel are repeated to three, then resized to 299x299 by torch's bilinear interpolation (corners not
    aligned, no antialiasing), as pytorch-fid does. TensorFlow's and Pillow's resizing differ, so values do not compare
    with theirs.
    """

    network: InceptionV3
    name: str
    digest: str

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """Features of (n, 1 or 3, h, w)."""
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise BadInput("Inception takes images of 1 or 3 channels", got=tuple(images.shape), fix="decode latents")
        three = images.expand(-1, 3, -1, -1)
        found = self.network(F.interpolate(three, size=(SIZE, SIZE), mode="bilinear", align_corners=False))
        return Features(found.pooled.numpy(), found.spatial.numpy(), found.logits.softmax(1).numpy())


def load_features(source: str | Path) -> FeatureExtractor:
    """Features by name, by file, or from a function of the user's.

    Args:
        source: ``"digits-classifier"`` (or with ``@version``); the path of a safetensors file with the state dict of
            Inception-v3 (see ``inception_network`` for the two that are known; pickled ``.pth`` files are not read,
            convert them with ``safetensors.torch.save_file``); or ``"module:factory"``, a function without arguments
            that returns a :class:`FeatureExtractor`.

    Raises:
        BadInput: nothing there to load, or what is there breaks a rule.
    """
    text = str(source)
    if text.partition("@")[0] == DIGITS:
        return DigitsFeatures(load_classifier(text))
    if isinstance(source, Path) or text.endswith(".safetensors") or "/" in text:
        return load_inception(source)
    if ":" in text:
        return _from_factory(text)
    raise BadInput(
        "features must be digits-classifier, a safetensors file of Inception weights, or module:factory",
        got=repr(text),
        fix="name one of them",
    )


def load_inception(path: str | Path) -> InceptionFeatures:
    """Inception-v3 with the weights of a safetensors file; keys of the auxiliary head are left out.

    Raises:
        BadInput: no readable safetensors file, or another network's.
    """
    path = Path(path)
    try:
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(
            "Inception weights must be a readable safetensors file",
            got=f"{path} ({error})",
            fix="write the state dict with safetensors.torch.save_file",
        ) from error
    tensors = {name: tensor.float() for name, tensor in tensors.items() if not name.startswith("AuxLogits.")}
    rows = len(tensors["fc.weight"]) if "fc.weight" in tensors else 0
    try:
        if rows not in (TORCHVISION, FID):
            raise ValueError(f"fc.weight of {rows} rows, not {TORCHVISION} or {FID}")
        with torch.device("meta"):
            network = InceptionV3(rows)
        for name, module in network.named_modules():  # a counter that inference never reads
            if isinstance(module, torch.nn.BatchNorm2d):
                tensors.setdefault(f"{name}.num_batches_tracked", torch.tensor(0))
        network.load_state_dict(tensors, assign=True)
    except (RuntimeError, ValueError) as error:
        raise BadInput(
            "the file must hold Inception-v3 under torchvision's names",
            got=f"{path} ({' '.join(str(error).split())[:200]})",
            fix="convert torchvision's or pytorch-fid's state dict",
        ) from error
    network.eval().requires_grad_(False)
    digest = files_digest((path,))
    kind = "inception-v3-fid" if rows == FID else "inception-v3-torchvision"
    return InceptionFeatures(network, f"{kind}-{digest[:8]}", digest)


def features_of(
    extractor: FeatureExtractor, images: NDArray[np.float32], report: Callable[[int, int], None] | None = None
) -> tuple[Features, float]:
    """Features of images (n, c, h, w), batch by batch, and the share of pixels that were clipped to [-1, 1] first.

    Images are clipped because a picture cannot hold more; samplers overshoot.

    Raises:
        BadInput: images that are not finite, or an extractor that breaks its promise.
    """
    if not np.isfinite(images).all():
        raise BadInput("images must be finite", got="NaN or infinity", fix="look for samples that diverged")
    parts = []
    for first in range(0, len(images), _BATCH):
        batch = torch.from_numpy(np.clip(images[first : first + _BATCH], -1.0, 1.0).astype(np.float32))
        parts.append(_checked(extractor, extractor(batch), len(batch)))
        if report is not None:
            report(min(first + _BATCH, len(images)), len(images))
    spatial = None if parts[0].spatial is None else np.concatenate([part.spatial for part in parts])
    posteriors = None if parts[0].posteriors is None else np.concatenate([part.posteriors for part in parts])
    joined = Features(np.concatenate([part.pooled for part in parts]), spatial, posteriors)
    return joined, float((abs(images) > 1.0).mean())


def _checked(extractor: FeatureExtractor, found: Any, count: int) -> Features:
    for name in Features._fields:
        values = getattr(found, name, None)
        fits = isinstance(values, np.ndarray) and values.ndim == 2 and len(values) == count
        if not fits and (values is not None or name == "pooled"):
            raise BadInput(
                f"an extractor's {name} must be a numpy array (n, d) with a row for each image",
                got=f"{type(values).__name__} {getattr(values, 'shape', '')} from {extractor.name}",
                fix="return a Features",
            )
    return found


def _from_factory(source: str) -> FeatureExtractor:
    module, _, name = source.partition(":")
    try:
        made = getattr(import_module(module), name)()
    except Exception as error:  # a user's code may raise anything, and commands promise one line
        lines = str(error).splitlines() or [""]
        raise BadInput(
            "features must be module:factory, a function without arguments that Python can import",
            got=f"{source!r} ({type(error).__name__}: {lines[0]})",
            fix="check spelling and working folder",
        ) from error
    if not isinstance(made, FeatureExtractor) or not callable(made):
        raise BadInput(
            "a factory of features must return a FeatureExtractor",
            got=f"{type(made).__name__} from {source}",
            fix="give it name, digest and a call of images",
        )
    return made
