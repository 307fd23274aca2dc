"""Noise schedules and samplers of diffusion models. Nothing here knows of quantization.

A sampler takes ``denoiser(x, timestep)`` and a noise source, and every update is linear: x_{t-1} = a x_t + b epsilon +
c z, and earlier predictions in multistep methods, with its coefficients open to inspection (``sampler.updates``).

Names load on first use, so that ``import samplers`` and the schedules load neither torch nor scipy. The function
``samplers.timesteps.timesteps`` is not exported here, since it would share its name with its module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplers.lazy import lazily

if TYPE_CHECKING:
    from samplers.clipping import ClipSample, DynamicThresholding
    from samplers.coefficients import Earlier, Node, Prediction, Update, advance
    from samplers.ddim import DDIM, ddim_sigma, ddim_update, ddim_with_sigma
    from samplers.ddpm import DDPM, ddpm_update, ddpm_variance
    from samplers.diffusers_config import sampler_from_config
    from samplers.dpm_solver import DPMSolver, dpm_solver_updates
    from samplers.errors import BadInput, QnoiseError
    from samplers.euler import Euler, EulerAncestral, euler_ancestral_updates, euler_updates
    from samplers.fixed_point import FixedPointState
    from samplers.guidance import guided
    from samplers.heun import Heun, heun_updates
    from samplers.loop import sample
    from samplers.method import Method
    from samplers.noise import NoiseStream
    from samplers.parameterization import predict
    from samplers.plms import PLMS, plms_updates
    from samplers.sampler import NoiseSource, Sampler
    from samplers.schedule import NoiseSchedule
    from samplers.state import BFloat16State, Float16State, Float32State, Float64State, State

__all__ = [
    "DDIM",
    "DDPM",
    "PLMS",
    "BFloat16State",
    "BadInput",
    "ClipSample",
    "DPMSolver",
    "DynamicThresholding",
    "Earlier",
    "Euler",
    "EulerAncestral",
    "FixedPointState",
    "Float16State",
    "Float32State",
    "Float64State",
    "Heun",
    "Method",
    "Node",
    "NoiseSchedule",
    "NoiseSource",
    "NoiseStream",
    "Prediction",
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
    "dpm_solver_updates",
    "euler_ancestral_updates",
    "euler_updates",
    "guided",
    "heun_updates",
    "plms_updates",
    "predict",
    "sample",
    "sampler_from_config",
]

_MODULES = {
    "clipping": ("ClipSample", "DynamicThresholding"),
    "coefficients": ("Earlier", "Node", "Prediction", "Update", "advance"),
    "ddim": ("DDIM", "ddim_sigma", "ddim_update", "ddim_with_sigma"),
    "ddpm": ("DDPM", "ddpm_update", "ddpm_variance"),
    "diffusers_config": ("sampler_from_config",),
    "dpm_solver": ("DPMSolver", "dpm_solver_updates"),
    "errors": ("BadInput", "QnoiseError"),
    "euler": ("Euler", "EulerAncestral", "euler_ancestral_updates", "euler_updates"),
    "fixed_point": ("FixedPointState",),
    "guidance": ("guided",),
    "heun": ("Heun", "heun_updates"),
    "loop": ("sample",),
    "method": ("Method",),
    "noise": ("NoiseStream",),
    "parameterization": ("predict",),
    "plms": ("PLMS", "plms_updates"),
    "sampler": ("NoiseSource", "Sampler"),
    "schedule": ("NoiseSchedule",),
    "state": ("BFloat16State", "Float16State", "Float32State", "Float64State", "State"),
}

__getattr__, __dir__ = lazily(__name__, _MODULES)
