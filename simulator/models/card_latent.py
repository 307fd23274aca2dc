"""The part of a latent model's card that tells of its autoencoder: what is lost before any sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from simulator.models.digits import Digits
from simulator.models.distances import Rows, energy_distance, frechet_distance, pixel_rows
from simulator.models.latent_space import LatentSpace

LEVELS = 16
"""Grey levels of the digits between black and white."""


def autoencoder_figures(space: LatentSpace, digits: Digits) -> dict[str, Any]:
    """Sizes, latents and reconstruction errors, as plain JSON values."""
    parts = {"train": digits.train, "held_out": digits.held_out}
    decoded = {part: reconstructions(space, images) for part, images in parts.items()}
    train, held_out, real = (pixel_rows(x) for x in (digits.train, decoded["held_out"], digits.held_out))
    channels, height, width = space.encode(digits.held_out[:1]).shape[1:]
    return {
        "weights_sha256": space.digest,
        "parameters": sum(p.numel() for p in space.autoencoder.parameters()),
        "decoder_macs_per_sample": _macs(space.decoder.module, (channels, height, width)),
        "latent_shape": [channels, height, width],
        "deviation": {part: _deviations(space.encode(images)) for part, images in parts.items()},
        "reconstruction": {part: _errors(images, decoded[part]) for part, images in parts.items()},
        "held_out_to_train": {
            "frechet": frechet_distance(held_out, train),
            "energy": energy_distance(held_out, train),
            "frechet_undecoded": frechet_distance(real, train),
            "energy_undecoded": energy_distance(real, train),
        },
        "held_out_faint": {"reconstructed": _faint(held_out), "images": _faint(real)},
    }


def reconstructions(space: LatentSpace, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images, encoded to the mean of their latents and decoded."""
    return space.decoder.decode(torch.from_numpy(space.encode(images))).numpy()


def autoencoder_text(figures: dict[str, Any]) -> str:
    """The card's section."""
    facts = figures["training"]
    shape = "x".join(map(str, figures["latent_shape"]))
    rows = []
    for part, found in figures["reconstruction"].items():
        deviation = " and ".join(f"{value:.2f}" for value in figures["deviation"][part])
        rows.append(
            f"| {part.replace('_', ' ')} | {found['mean_square']:.4f} | {found['levels']:.2f} | "
            f"{100 * found['same_level']:.1f} % | {found['sqnr_db']:.1f} dB | {deviation} |\n"
        )
    to_train, faint = figures["held_out_to_train"], figures["held_out_faint"]
    return (
        "## Autoencoder\n\n"
        f"{figures['parameters']:,} parameters, float32, `sha256 {figures['weights_sha256']}`; latents {shape}, half "
        f"as many numbers as pixels,\nscaled to mean 0 and variance 1 over the training images; decoding takes "
        f"{figures['decoder_macs_per_sample']:,} multiply-accumulates. Trained first, with\nmean squared error and "
        f"{facts['recipe']['kl_weight']:g} times the divergence per element, for {facts['steps_run']} steps of "
        f"{facts['recipe']['batch_size']} images in {facts['seconds'] / 60:.1f} minutes on {facts['threads']} "
        f"thread;\nthe average of step {facts['best_step']} has the lowest held-out loss and is what is shipped. The "
        "denoiser sees means of latents, no draws.\n\n"
        "Reconstruction of images from the means of their latents: mean squared error on [-1, 1], its root in grey "
        "levels (of\n16), pixels that keep their level, ratio of the images' power to the error's, and the latents' "
        "deviation per channel.\n\n"
        "| images | mean square | levels | same level | ratio | deviation |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n" + "".join(rows) + "\n"
        "What decoding alone costs: reconstructed held-out images lie at a Frechet distance of "
        f"{to_train['frechet']:.4f} from the training\nimages (held-out images themselves at "
        f"{to_train['frechet_undecoded']:.4f}) and at an energy distance of {to_train['energy']:.4f} "
        f"({to_train['energy_undecoded']:.4f}), over\nall images, so not to be compared with the subsets below. They "
        f"have {100 * faint['reconstructed']:.1f} % of pixels in faint grey, levels 1 and 2 of 16,\nwhere the images "
        f"have {100 * faint['images']:.1f} %: the decoder leaves a little speckle in the background.\n"
    )


def _errors(images: NDArray[np.float32], decoded: NDArray[np.float32]) -> dict[str, float]:
    square = float(np.mean((decoded.astype(np.float64) - images) ** 2))
    level, expected = ((np.rint(np.clip(x, -1, 1) * (LEVELS / 2))) for x in (decoded, images))
    return {
        "mean_square": square,
        "levels": float(np.sqrt(square) * LEVELS / 2),
        "same_level": float(np.mean(level == expected)),
        "sqnr_db": float(10 * np.log10(np.mean(images.astype(np.float64) ** 2) / square)),
    }


def _faint(rows: Rows) -> float:
    level = np.rint(rows * LEVELS)
    return float(((level == 1) | (level == 2)).mean())


def _deviations(latents: NDArray[np.float32]) -> list[float]:
    return [float(value) for value in latents.astype(np.float64).std(axis=(0, 2, 3))]


def _macs(module: nn.Module, shape: tuple[int, ...]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, *shape))
    return int(counter.get_total_flops()) // 2
