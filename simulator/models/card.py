"""The model card: what the shipped weights are worth, every number computed here.

``python -m simulator.models.card [NAME] [FOLDER]`` loads a model from a folder of weights, evaluates it, and writes
``NAME@VERSION.card.json`` and ``NAME@VERSION.md`` beside the weights; training does it at its end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samplers.ddim import DDIM
from samplers.loop import Denoiser, sample
from samplers.noise import NoiseStream
from samplers.schedule import require_schedule
from simulator.models import registry
from simulator.models.card_latent import autoencoder_figures
from simulator.models.card_text import card_text
from simulator.models.checkpoint import write_bytes
from simulator.models.conditioning import class_denoiser, cyclic_labels
from simulator.models.denoising import denoising_losses, generator
from simulator.models.digits import Digits, load_digits
from simulator.models.distances import (
    Rows,
    energy_distance,
    frechet_distance,
    nearest_distances,
    nearest_indices,
    pixel_rows,
)
from simulator.models.latent_space import LatentSpace
from simulator.models.progress import progress

SAMPLES = 1580
STEPS = (50, 20, 10)
LOSS_BINS = 10
LOSS_SEED = 77
SAMPLE_SEED = 2718
SUBSETS = 20
WEIGHTS_OF_GUIDANCE = (0.0, 1.0, 2.0, 4.0)
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95)


def generate(
    model: registry.Model, count: int, num_inference_steps: int, seed: int, *, weight: float = 1.0
) -> NDArray[np.float32]:
    """Draw ``count`` samples with DDIM (eta 0, no clipping of x0): (count, *sample_shape) float32.

    Sample i of a model with classes is asked for class ``i % classes``, with guidance ``weight``.
    """
    sampler = DDIM(require_schedule(model.schedule), num_inference_steps, eta=0.0)
    noise = NoiseStream(seed, "card")

    def draw(members: range) -> Tensor:
        denoiser: Denoiser = model.module
        if model.classes is not None:
            denoiser = class_denoiser(model, cyclic_labels(members, model.classes), weight=weight)
        return sample(denoiser, sampler, noise, members, model.sample_shape)

    parts = [draw(range(start, min(start + 256, count))) for start in range(0, count, 256)]
    return torch.cat(parts).float().numpy()


def write_card(name: str = "digits-unet", folder: str | Path | None = None) -> dict[str, Any]:
    """Evaluate a model and write its card and figures beside its weights; returns the figures."""
    folder = registry.WEIGHTS if folder is None else Path(folder)
    model = registry.load(name, weights=folder)
    manifest = registry.read_manifest(folder / f"{model.name}@{model.version}.json")
    stem = f"{model.name}@{model.version}"
    space = None if model.decoder is None else registry.load_latent_space(stem, weights=folder)
    figures = card_figures(model, load_digits(), space) | {"training": manifest["training"]}
    if space is not None:
        own = registry.read_manifest(folder / f"{stem}.autoencoder.json")
        figures["autoencoder"]["training"] = own["training"]
    write_bytes(folder / f"{stem}.card.json", (json.dumps(figures, indent=1) + "\n").encode())
    write_bytes(folder / f"{stem}.md", card_text(model, figures).encode())
    return figures


def sample_rows(model: registry.Model, samples: NDArray[np.float32]) -> Rows:
    """Samples as rows of pixels, those of a latent model decoded."""
    if model.decoder is not None:
        samples = model.decoder.decode(torch.from_numpy(samples)).numpy()
    return pixel_rows(samples)


def card_figures(model: registry.Model, digits: Digits, space: LatentSpace | None = None) -> dict[str, Any]:
    """All figures of the card but the training facts, as plain JSON values; a latent model comes with its space."""
    real = {"train": pixel_rows(digits.train), "held_out": pixel_rows(digits.held_out)}
    by_steps = {}
    with progress("card", len(STEPS)) as report:
        for i, steps in enumerate(STEPS):
            rows = sample_rows(model, generate(model, SAMPLES, steps, SAMPLE_SEED))
            by_steps[str(steps)] = _sample_figures(rows, real)
            report(i + 1, f"sampled with {steps} steps")
    figures = {
        "model": f"{model.name}@{model.version}",
        "weights_sha256": model.weights_digest,
        "parameters": sum(p.numel() for p in model.module.parameters()),
        "macs_per_sample": count_macs(model),
        "denoising": _loss_figures(model, digits if space is None else space.digits(digits)),
        "samples": {"count": SAMPLES, "sampler": "DDIM, eta 0", "seed": SAMPLE_SEED, "by_steps": by_steps},
        "real": {
            "train": len(digits.train),
            "held_out": len(digits.held_out),
            "distances": _distances(real["train"], real["held_out"]),
            "nearest_train": {"held_out": _quantiles(nearest_distances(real["held_out"], real["train"]))},
            "levels": {part: _levels(rows) for part, rows in real.items()},
        },
    }
    if model.classes is not None:
        figures["guidance"] = guidance_figures(model, digits, WEIGHTS_OF_GUIDANCE)
    if space is not None:
        figures["autoencoder"] = autoencoder_figures(space, digits)
    return figures


def guidance_figures(model: registry.Model, digits: Digits, weights: Sequence[float]) -> dict[str, Any]:
    """What classes and guidance do: whether the nearest training image has the label asked for, and at which price."""
    train, held_out = pixel_rows(digits.train), pixel_rows(digits.held_out)

    def hits(rows: Rows, asked: NDArray[np.int64]) -> dict[str, Any]:
        right = digits.train_labels[nearest_indices(rows, train)] == asked
        by_class = [float(right[asked == label].mean()) for label in np.unique(asked)]
        return {"all": float(right.mean()), "by_class": by_class}

    asked = cyclic_labels(range(SAMPLES), model.classes or 0).numpy()
    by_weight = {}
    with progress("guidance", len(weights)) as report:
        for i, weight in enumerate(weights):
            rows = pixel_rows(generate(model, SAMPLES, STEPS[0], SAMPLE_SEED, weight=weight))
            by_weight[f"{weight:g}"] = {
                "nearest_has_label": hits(rows, asked),
                "to_held_out": _distances(rows, held_out),
                "nearest_train": _quantiles(nearest_distances(rows, train)),
            }
            report(i + 1, f"sampled with weight {weight:g}")
    return {
        "steps": STEPS[0],
        "held_out": {"nearest_has_label": hits(held_out, digits.held_out_labels)},
        "by_weight": by_weight,
    }


def count_macs(model: registry.Model) -> int:
    """Multiply-accumulates of convolutions, linear layers and attention for one sample."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.module(torch.zeros(1, *model.sample_shape), torch.zeros(1, dtype=torch.int64))
    return int(counter.get_total_flops()) // 2


def _loss_figures(model: registry.Model, digits: Digits) -> dict[str, Any]:
    figures: dict[str, Any] = {"bins": LOSS_BINS, "seed": LOSS_SEED}
    labels = (digits.train_labels, digits.held_out_labels) if model.classes is not None else (None, None)
    parts = [("train", digits.train, labels[0]), ("held_out", digits.held_out, labels[1])]
    if model.classes is not None:
        parts.append(("held_out_without_label", digits.held_out, None))
    abar = require_schedule(model.schedule).alphas_cumprod
    for part, images, given in parts:
        losses = denoising_losses(model.module, images, abar, bins=LOSS_BINS, seed=LOSS_SEED, labels=given)
        per_image = losses.mean(axis=0)
        figures[part] = {
            "by_bin": losses.mean(axis=1).tolist(),
            "mean": float(per_image.mean()),
            "standard_error": float(per_image.std(ddof=1) / np.sqrt(len(per_image))),
        }
    return figures


def _sample_figures(rows: Rows, real: dict[str, Rows]) -> dict[str, Any]:
    nearest = nearest_distances(rows, real["train"])
    closest_real = nearest_distances(real["held_out"], real["train"]).min()
    return {
        "to_held_out": _distances(rows, real["held_out"]),
        "to_train": _distances(rows, real["train"], size=len(real["held_out"])),
        "nearest_train": _quantiles(nearest),
        "closer_than_any_held_out": float((nearest < closest_real).mean()),
        "levels": _levels(rows),
    }


def _distances(a: Rows, b: Rows, size: int | None = None) -> dict[str, Any]:
    """Both distances between random subsets of equal size: mean and standard deviation over the subsets."""
    size = size or min(len(a), len(b))
    found = []
    for i in range(SUBSETS):
        random = generator(SAMPLE_SEED, i)
        part_a, part_b = (rows[random.permutation(len(rows))[:size]] for rows in (a, b))
        found.append((frechet_distance(part_a, part_b), energy_distance(part_a, part_b)))
    mean, spread = np.mean(found, axis=0), np.std(found, axis=0, ddof=1)
    return {
        "size": size,
        "frechet": {"mean": float(mean[0]), "sd": float(spread[0])},
        "energy": {"mean": float(mean[1]), "sd": float(spread[1])},
    }


def _quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    return {str(q): float(np.quantile(values, q)) for q in QUANTILES}


def _levels(rows: Rows) -> dict[str, float]:
    """Shares of pixels that round to background (0 of 16) and to faint grey (1 or 2 of 16), where speckle shows."""
    level = np.rint(rows * 16)
    return {"background": float((level == 0).mean()), "faint": float(((level == 1) | (level == 2)).mean())}


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_card(*sys.argv[1:3])
