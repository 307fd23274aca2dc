"""Noise schedules and samplers of diffusion models. Nothing here knows of quantization.

A sampler takes ``denoiser(x, timestep)`` and a noise source, and every update is linear:
x_{t-1} = a x_t + b epsilon + c z, with its coefficients open to inspection (``sampler.updates``).

Names load on first use, so that ``import samplers`` and the schedules load neither torch nor scipy. The function
``samplers.timesteps.timesteps`` is not exported here, since it would share its name with its module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samplers.coefficients import Update, advance
    from samplers.ddim import DDIM, ddim_sigma, ddim_update, ddim_with_sigma
    from samplers.ddpm import DDPM, ddpm_update, ddpm_variance
    from samplers.errors import BadInput, QnoiseError
    from samplers.guidance import guided
    from samplers.loop import sample
    from samplers.noise import NoiseStream
    from samplers.parameterization import predict
    from samplers.sampler import NoiseSource, Sampler
    from samplers.schedule import NoiseSchedule
    from samplers.state import BFloat16State, Float16State, Float32State, Float64State, State

__all__ = [
    "DDIM",
    "DDPM",
    "BFloat16State",
    "BadInput",
    "Float16State",
    "Float32State",
    "Float64State",
    "NoiseSchedule",
    "NoiseSource",
    "NoiseStream",
    "QnoiseError",
    "Sampler",
    "State",
    "Update",
    "advance",
    "ddim_sigma",
    "ddim_update",
    "ddim_with_sigma",
    "ddpm_update",
    "ddpm_variance",
    "guided",
    "predict",
    "sample",
]

_MODULES = {
    "coefficients": ("Update", "advance"),
    "ddim": ("DDIM", "ddim_sigma", "ddim_update", "ddim_with_sigma"),
    "ddpm": ("DDPM", "ddpm_update", "ddpm_variance"),
    "errors": ("BadInput", "QnoiseError"),
    "guidance": ("guided",),
    "loop": ("sample",),
    "noise": ("NoiseStream",),
    "parameterization": ("predict",),
    "sampler": ("NoiseSource", "Sampler"),
    "schedule": ("NoiseSchedule",),
    "state": ("BFloat16State", "Float16State", "Float32State", "Float64State", "State"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load an exported name from its module on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'samplers' has no attribute {name!r}")
    value = getattr(import_module(f"samplers.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the exported names, loaded or not."""
    return sorted({*globals(), *__all__})
