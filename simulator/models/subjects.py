"""Exact subjects as models: distributions whose networks, samples and densities are known, so that errors are too.

``simulator.load("gaussian")``, ``"gaussian-mixture"`` and ``"digits-empirical"`` give those below; :func:`subject`
makes a model of any other distribution. ``model.module.data`` is the distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from samplers.errors import BadInput
from samplers.schedule import NoiseSchedule
from simulator.models.digest import module_digest
from simulator.models.digits import load_digits
from simulator.models.empirical import Empirical
from simulator.models.exact_denoiser import AlphaCumprod
from simulator.models.gaussian import Gaussian
from simulator.models.mixture import Mixture
from simulator.models.registry import Model

VERSION = 1


def subject(
    name: str,
    data: Gaussian | Mixture,
    sample_shape: tuple[int, ...],
    *,
    schedule: NoiseSchedule | None = None,
    prediction_type: str = "epsilon",
    alpha_cumprod: AlphaCumprod | None = None,
) -> Model:
    """A model whose network is exact for ``data``, on a schedule.

    Args:
        name: of the results.
        data: the distribution, whose d elements are those of a sample.
        sample_shape: (channels, height, width) for images; elements in C order.
        schedule: the training schedule; ``NoiseSchedule()`` if None.
        prediction_type: epsilon, sample or v_prediction; other than epsilon it is part of the name.
        alpha_cumprod: abar as a function of the timestep, for samplers whose levels lie off the schedule's table. It is
            not in the digest: name the model after it.

    Raises:
        BadInput: a shape of another number of elements, or an unknown prediction_type.
    """
    if prod(sample_shape) != data.dimension:
        raise BadInput(
            f"sample_shape must hold the distribution's {data.dimension} elements", got=sample_shape, fix="reshape"
        )
    schedule = schedule or NoiseSchedule()
    module = data.denoiser(alpha_cumprod or schedule, prediction_type).eval()
    named = name if prediction_type == "epsilon" else f"{name}-{prediction_type}"
    return Model(named, VERSION, module, schedule, tuple(sample_shape), prediction_type, module_digest(module))


def gaussian(prediction_type: str = "epsilon") -> Model:
    """Stationary 8 x 8 images: mean -0.4 and variance 0.5 of every pixel, about those of the digits.

    Power spectrum proportional to (1 + u^2 + v^2)^(-3/2), u and v in cycles per image: a factor 190 between the
    variances of the constant and of the chessboard.
    """
    frequency = np.fft.fftfreq(8, 1 / 8)
    power = (1 + frequency[:, None] ** 2 + frequency**2) ** -1.5
    data = Gaussian.stationary(0.5 * power / power.mean(), mean=-0.4)
    return subject("gaussian", data, (1, 8, 8), prediction_type=prediction_type)


def gaussian_mixture(prediction_type: str = "epsilon") -> Model:
    """Three components in the plane, of unequal weight (0.5, 0.3, 0.2) and own variances."""
    data = Mixture(
        np.array([0.5, 0.3, 0.2]),
        np.array([[-1.0, -0.5], [0.8, 0.9], [1.0, -0.8]]),
        np.array([[0.04, 0.09], [0.09, 0.02], [0.01, 0.04]]),
    )
    return subject("gaussian-mixture", data, (1, 1, 2), prediction_type=prediction_type)


def digits_empirical(prediction_type: str = "epsilon") -> Model:
    """The 1402 training images that the shipped digits models learned from, each of probability 1/1402.

    Raises:
        BadInput: scikit-learn, which holds the images, is missing.
    """
    data = Empirical(load_digits().train.reshape(-1, 64))
    return subject("digits-empirical", data, (1, 8, 8), prediction_type=prediction_type)


SUBJECTS: dict[str, Callable[[], Model]] = {
    "gaussian": gaussian,
    "gaussian-mixture": gaussian_mixture,
    "digits-empirical": digits_empirical,
}


def is_subject(name: str) -> bool:
    """Whether ``name`` is that of a subject, with or without its version."""
    stem, at, version = name.partition("@")
    return stem in SUBJECTS and (not at or version == str(VERSION))


def load(name: str) -> Model:
    """The subject of this name, for instance ``gaussian`` or ``gaussian@1``."""
    return SUBJECTS[name.partition("@")[0]]()
