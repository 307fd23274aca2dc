"""A trained autoencoder with the scale of its latents: what a latent denoiser is trained in and decoded from."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from samplers.errors import BadInput
from simulator.models.autoencoder import Autoencoder, AutoencoderConfig
from simulator.models.decoder import Decoder
from simulator.models.digits import Digits


@dataclass(frozen=True)
class LatentSpace:
    """An autoencoder and the affine map to latents of mean 0 and variance 1 over its training images.

    Args:
        autoencoder: in eval mode, without gradients.
        scale: latents are ``(mean - shift) scale`` of the encoder's mean.
        shift: see ``scale``.
        digest: SHA-256 of the weights file.
    """

    autoencoder: Autoencoder
    scale: float
    shift: float
    digest: str

    @classmethod
    def fit(cls, autoencoder: Autoencoder, images: NDArray[np.float32]) -> LatentSpace:
        """The space in which the latents of ``images`` have mean 0 and variance 1, over all their elements."""
        autoencoder = autoencoder.eval().requires_grad_(False)
        mean = _means(autoencoder, images).astype(np.float64)
        return cls(autoencoder, float(1.0 / mean.std()), float(mean.mean()), _digest(autoencoder))

    @property
    def decoder(self) -> Decoder:
        """The way back to pixels."""
        return Decoder(self.autoencoder.decoder, self.scale, self.shift, self.digest)

    def encode(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Latents of images, (N, C, H, W) -> (N, c, H/2, W/2): the encoder's means, not draws around them."""
        return ((_means(self.autoencoder, images) - np.float32(self.shift)) * np.float32(self.scale)).astype(np.float32)

    def digits(self, digits: Digits) -> Digits:
        """The digits with latents in place of images."""
        return dataclasses.replace(digits, train=self.encode(digits.train), held_out=self.encode(digits.held_out))

    def weights(self) -> bytes:
        """Content of the weights file."""
        return _content(self.autoencoder)

    def manifest(self) -> dict[str, Any]:
        """What is recorded beside the weights, but for the facts of training."""
        content = self.weights()
        return {
            "architecture": f"{Autoencoder.__module__}.{Autoencoder.__qualname__}",
            "config": dataclasses.asdict(self.autoencoder.config),
            "latents": {"scale": self.scale, "shift": self.shift},
            "weights": {"sha256": self.digest, "bytes": len(content), "dtype": "float32"},
        }

    @classmethod
    def from_manifest(cls, manifest: dict[str, Any], content: bytes) -> LatentSpace:
        """The space that :meth:`manifest` and :meth:`weights` describe; the content's digest was checked.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: manifest and weights do not fit.
        """
        known = f"{Autoencoder.__module__}.{Autoencoder.__qualname__}"
        if manifest["architecture"] != known:
            raise BadInput("the autoencoder must be a known one", got=repr(manifest["architecture"]), fix=known)
        with torch.device("meta"):
            autoencoder = Autoencoder(AutoencoderConfig(**manifest["config"]))
        autoencoder.load_state_dict(safetensors.torch.load(content), assign=True)
        latents = manifest["latents"]
        digest = hashlib.sha256(content).hexdigest()
        return cls(autoencoder.eval().requires_grad_(False), float(latents["scale"]), float(latents["shift"]), digest)


@torch.no_grad()
def _means(autoencoder: Autoencoder, images: NDArray[np.float32]) -> NDArray[np.float32]:
    parts: list[Tensor] = [autoencoder.encode(part)[0] for part in torch.from_numpy(images).split(256)]
    return torch.cat(parts).numpy()


def _content(autoencoder: Autoencoder) -> bytes:
    return safetensors.torch.save({key: value.contiguous() for key, value in autoencoder.state_dict().items()})


def _digest(autoencoder: Autoencoder) -> str:
    return hashlib.sha256(_content(autoencoder)).hexdigest()
