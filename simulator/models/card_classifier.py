"""A classifier's card: accuracy on both parts of the data, and what its features look like.

``python -m simulator.models.card_classifier [NAME] [FOLDER]`` writes ``NAME@VERSION.card.json`` and
``NAME@VERSION.md`` beside the weights; training does it at its end.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import beta
from torch.utils.flop_counter import FlopCounterMode

from simulator.models import registry
from simulator.models.checkpoint import write_bytes
from simulator.models.digits import Digits, load_digits
from simulator.models.shipped_classifier import ShippedClassifier, load_classifier

_TEXT = """\
# {model}

A convolutional classifier of 8x8 grey images of handwritten digits, whose features are the scale of `qnoise quality`
for models of digits. It is small and knows nothing but these digits: distances in its features are comparable with each
other, and never with FID, whose features come from Inception.

- {parameters:,} parameters, {macs:,} multiply-accumulates per image, float32, `sha256 {digest}`
- images (1, 8, 8) on [-1, 1]; {pooled} features before the head (non-negative: the mean of a ReLU over the image),
  {spatial} spatial features (the first {spatial_channels} channels of the 4x4 map), {classes} classes
- data: the digits bundled with scikit-learn (UCI Optical Recognition of Handwritten Digits, CC BY 4.0), {train} images
  to train, {held_out} held out for evaluation and for choosing when to stop (so the held-out figures are slightly
  optimistic), the split of the noise predictors, recorded; writers are not kept apart
- it has seen the training images: features of these are cleaner than those of other images of digits, and the distance
  between the two parts holds some of that

Every number in this file is computed by `python -m simulator.models.card_classifier`.

## Training

Cross-entropy with label smoothing {smoothing:g}, images moved by up to a pixel with probability {shift:g}, dropout
{dropout:g} before the head. AdamW, peak learning rate {rate:g} with cosine decay over {steps} steps of {batch} images,
weight decay {decay:g}, weights averaged with decay {ema:g}, seed {seed}. Stopped after {run} steps; the average of
step {best} has the lowest held-out cross-entropy ({loss:.4f}) and is what is shipped. Took {seconds} seconds on
{threads} thread with torch {torch}.

## Accuracy

| part | images | accuracy | 95 % (Clopper-Pearson) | cross-entropy |
| --- | ---: | ---: | ---: | ---: |
{accuracy}
Held-out accuracy by class: {by_class}.
"""


def write_classifier_card(name: str = "digits-classifier", folder: str | Path | None = None) -> dict[str, Any]:
    """Evaluate a classifier and write its card and figures beside its weights; returns the figures."""
    folder = registry.WEIGHTS if folder is None else Path(folder)
    classifier = load_classifier(name, weights=folder)
    stem = f"{classifier.name}@{classifier.version}"
    figures = classifier_figures(classifier, load_digits())
    figures["training"] = registry.read_manifest(folder / f"{stem}.json")["training"]
    write_bytes(folder / f"{stem}.card.json", (json.dumps(figures, indent=1) + "\n").encode())
    write_bytes(folder / f"{stem}.md", classifier_text(figures).encode())
    return figures


def classifier_figures(classifier: ShippedClassifier, digits: Digits) -> dict[str, Any]:
    """All figures of the card but the training facts, as plain JSON values."""
    module = classifier.module
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        described = module.describe(torch.zeros(1, *classifier.sample_shape))
    return {
        "model": f"{classifier.name}@{classifier.version}",
        "weights_sha256": classifier.weights_digest,
        "parameters": sum(p.numel() for p in module.parameters()),
        "macs_per_image": int(counter.get_total_flops()) // 2,
        "pooled": described.pooled.shape[1],
        "spatial": described.spatial.shape[1],
        "spatial_channels": module.config.spatial_channels,
        "classes": module.config.classes,
        "accuracy": {part: _accuracy(classifier, *digits.part(part)) for part in ("train", "held_out")},
    }


@torch.no_grad()
def _accuracy(classifier: ShippedClassifier, images: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, Any]:
    logits = classifier.module(torch.from_numpy(images))
    right = logits.argmax(1).numpy() == labels
    hits, count = int(right.sum()), len(right)
    return {
        "images": count,
        "right": hits,
        "share": hits / count,
        "low": float(beta.ppf(0.025, hits, count - hits + 1)) if hits else 0.0,
        "high": float(beta.ppf(0.975, hits + 1, count - hits)) if hits < count else 1.0,
        "cross_entropy": float(F.cross_entropy(logits.double(), torch.from_numpy(labels))),
        "by_class": [float(right[labels == label].mean()) for label in np.unique(labels)],
    }


def classifier_text(figures: dict[str, Any]) -> str:
    """Lay the figures out."""
    facts, parts = figures["training"], figures["accuracy"]
    recipe, by_class = facts["recipe"], parts["held_out"]["by_class"]
    rows = "".join(
        f"| {part.replace('_', ' ')} | {found['images']} | {100 * found['share']:.2f} % | "
        f"{100 * found['low']:.1f} to {100 * found['high']:.1f} % | {found['cross_entropy']:.4f} |\n"
        for part, found in parts.items()
    )
    return _TEXT.format(
        model=figures["model"], parameters=figures["parameters"], macs=figures["macs_per_image"],
        digest=figures["weights_sha256"], pooled=figures["pooled"], spatial=figures["spatial"],
        spatial_channels=figures["spatial_channels"], classes=figures["classes"],
        train=parts["train"]["images"], held_out=parts["held_out"]["images"],
        smoothing=recipe["label_smoothing"], shift=recipe["shift"], dropout=recipe["network"]["dropout"],
        rate=recipe["learning_rate"], steps=recipe["steps"], batch=recipe["batch_size"], decay=recipe["weight_decay"],
        ema=recipe["ema_decay"], seed=recipe["seed"], run=facts["steps_run"], best=facts["best_step"],
        loss=facts["held_out_loss"], seconds=facts["seconds"], threads=facts["threads"], torch=facts["torch"],
        accuracy=rows,
        by_class=", ".join(f"{label}: {100 * share:.0f} %" for label, share in enumerate(by_class)),
    )  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_classifier_card(*sys.argv[1:3])
