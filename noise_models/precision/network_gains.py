"""Gains of the network itself, for noise of epsilon: ``noise_gains`` in the form that rules take."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from noise_models.precision.gains import labelled_gains
from noise_models.propagation.gains import noise_gains
from samplers.sampler import Sampler
from simulator.calibration.trajectory import PURPOSE
from simulator.models.registry import Model


def network_gains(model: Model, sampler: Sampler, *, samples: int = 64, seed: int = 0, **options: Any) -> xr.DataArray:
    """Power in the final sample per power of white noise in epsilon at each step, to first order, (step,).

    Quantization noise is not white: where it lies along directions that the network damps or amplifies more than
    others, its gain differs. ``noise_gains`` counts noise of the network's output. At a given x_t an error of epsilon
    is one of epsilon, of v times sqrt(abar), or of x0 times sqrt(abar / (1 - abar)): gains are divided by its square.

    Args:
        model: the network, which torch must be able to differentiate.
        sampler: any with linear updates, multistep ones included.
        samples: trajectories, at least 2, of the noise stream "calibrate".
        seed: of trajectories and probes.
        options: further ones of :func:`noise_models.propagation.gains.noise_gains`.

    Raises:
        BadInput: as ``noise_gains``.
    """
    found = noise_gains(model, sampler, samples=samples, seed=seed, **{"purpose": PURPOSE, **options})
    abar = np.array([float(update.alpha_cumprod) for update in sampler.updates])
    power = {"epsilon": 1.0, "v_prediction": abar, "sample": abar / (1 - abar)}[sampler.prediction_type]
    meaning = "mean square of the final error per unit of white noise on epsilon at the step, to first order"
    return labelled_gains(found["gain"].to_numpy() / power, sampler, "network", meaning)
