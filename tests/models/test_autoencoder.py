"""Claim: the autoencoder's divergence is that of its Gaussian, its latents are half the image's sides, and a latent
space is the affine map that its training images fix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from samplers.errors import BadInput
from simulator.models.autoencoder import Autoencoder, AutoencoderConfig
from simulator.models.latent_space import LatentSpace


@pytest.fixture
def autoencoder() -> Autoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return Autoencoder(AutoencoderConfig(latent_channels=3, channels=(4, 8)))


def images(count: int = 9) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, 1, 8, 8)).astype(np.float32)


def test_forward__gives_the_divergence_from_the_standard_normal(autoencoder):
    x = torch.from_numpy(images())
    mean, log_variance = autoencoder.encode(x)
    _, divergence = autoencoder(x, torch.zeros_like(mean))
    want = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).mean(dim=(1, 2, 3))
    torch.testing.assert_close(divergence, want)


def test_forward__decodes_the_mean_plus_deviation_times_noise(autoencoder):
    x = torch.from_numpy(images())
    mean, log_variance = autoencoder.encode(x)
    assert mean.shape == (9, 3, 4, 4)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(autoencoder(x, noise)[0], autoencoder.decode(mean + log_variance.exp().sqrt() * noise))
    assert autoencoder(x, noise)[0].shape == x.shape


def test_latent_space__has_mean_0_and_variance_1_over_its_images(autoencoder):
    space = LatentSpace.fit(autoencoder, images(300))
    latents = space.encode(images(300))
    assert latents.dtype == np.float32
    assert abs(latents.mean()) < 1e-5
    assert latents.std() == pytest.approx(1.0, abs=1e-5)
    assert not autoencoder.training


def test_latent_space__decodes_what_it_encodes_to_the_autoencoders_reconstruction(autoencoder):
    space, x = LatentSpace.fit(autoencoder, images()), images()
    want = autoencoder.decode(autoencoder.encode(torch.from_numpy(x))[0]).detach()
    torch.testing.assert_close(space.decoder.decode(torch.from_numpy(space.encode(x))), want, rtol=1e-4, atol=1e-5)


def test_latent_space__survives_its_own_files(autoencoder):
    space = LatentSpace.fit(autoencoder, images())
    again = LatentSpace.from_manifest(space.manifest(), space.weights())
    assert (again.scale, again.shift, again.digest) == (space.scale, space.shift, space.digest)
    assert np.array_equal(again.encode(images()), space.encode(images()))
    assert not any(p.requires_grad for p in again.autoencoder.parameters())


@pytest.mark.parametrize(
    "sizes", [{"latent_channels": 0}, {"image_channels": 0}, {"channels": (6, 8)}, {"channels": (0, 8)}]
)
def test_config__refuses_sizes_that_cannot_be(sizes):
    with pytest.raises(BadInput):
        AutoencoderConfig(**sizes)
