"""From a diffusers ``scheduler_config.json`` to the sampler that takes the same steps, without diffusers itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from samplers.errors import BadInput
from samplers.schedule import NoiseSchedule

if TYPE_CHECKING:
    from samplers.method import Method

_BETAS = {
    "num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": None, "rescale_betas_zero_snr": False,
}  # fmt: skip
_CLIPPED = {
    "clip_sample": True, "clip_sample_range": 1.0, "thresholding": False, "dynamic_thresholding_ratio": 0.995,
    "sample_max_value": 1.0,
}  # fmt: skip
_THRESHOLDED = {"thresholding": False, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0}
_LEADING = {"prediction_type": "epsilon", "timestep_spacing": "leading", "steps_offset": 0}
_LINSPACE = {"prediction_type": "epsilon", "timestep_spacing": "linspace", "steps_offset": 0}
_LEVELS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_DPM = {
    "solver_order": 2, "algorithm_type": "dpmsolver++", "solver_type": "midpoint", "final_sigmas_type": "zero",
    "lambda_min_clipped": None, **_LEVELS, **_THRESHOLDED,
}  # fmt: skip
_NO_FLOW = {"use_flow_sigmas": False, "use_lu_lambdas": False, "use_dynamic_shifting": False}


@dataclass(frozen=True)
class _Scheduler:
    """What a scheduler of diffusers is here.

    Args:
        method: name of the class in ``samplers``.
        knobs: those that are passed on, with diffusers' defaults.
        betas: where its own defaults of the schedule differ.
        needs: knobs that must have this value, with the one that diffusers gives them when they are absent.
        fixed: arguments of the class that make it this scheduler.
    """

    method: str
    knobs: Mapping[str, Any]
    betas: Mapping[str, Any] = field(default_factory=dict)
    needs: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)


def _off(names: Mapping[str, bool]) -> dict[str, tuple[Any, Any]]:
    return dict.fromkeys(names, (False, False))


_EULER = {**_LINSPACE, **_LEVELS, "interpolation_type": "linear", "final_sigmas_type": "zero"}
_SCHEDULERS = {
    "DDIMScheduler": _Scheduler("DDIM", {**_LEADING, **_CLIPPED, "set_alpha_to_one": True}),
    "DDPMScheduler": _Scheduler("DDPM", {**_LEADING, **_CLIPPED, "variance_type": "fixed_small"}),
    "PNDMScheduler": _Scheduler(
        "PLMS", {**_LEADING, "set_alpha_to_one": False}, needs={"skip_prk_steps": (True, False)}
    ),
    "EulerDiscreteScheduler": _Scheduler(
        "Euler", _EULER,
        needs={"timestep_type": ("discrete", "discrete"), "sigma_min": (None, None), "sigma_max": (None, None)},
    ),
    "EulerAncestralDiscreteScheduler": _Scheduler("EulerAncestral", _LINSPACE),
    "HeunDiscreteScheduler": _Scheduler(
        "Heun", {**_LINSPACE, **_LEVELS, "clip_sample": False, "clip_sample_range": 1.0},
        {"beta_start": 0.00085, "beta_end": 0.012},
    ),
    "DPMSolverMultistepScheduler": _Scheduler(
        "DPMSolver", {**_LINSPACE, **_DPM, "lower_order_final": True, "euler_at_final": False}, needs=_off(_NO_FLOW)
    ),
    "DPMSolverSinglestepScheduler": _Scheduler(
        "DPMSolver", {"prediction_type": "epsilon", **_DPM, "lower_order_final": False}, needs=_off(_NO_FLOW),
        fixed={"solver": "singlestep"},
    ),
}  # fmt: skip
SCHEDULERS = tuple(_SCHEDULERS)
"""The classes of diffusers that have a sampler here."""


def sampler_from_config(
    config: Mapping[str, Any], num_inference_steps: int, *, schedule: NoiseSchedule | None = None, **changes: Any
) -> Method:
    """The sampler of a scheduler's configuration; knobs that it leaves out have diffusers' defaults.

    Which are not this package's: clip_sample is on in DDIMScheduler and DDPMScheduler where the file does not say.

    Args:
        config: what ``scheduler_config.json`` holds.
        num_inference_steps: steps of a run.
        schedule: in place of the one that the configuration names, for instance with ``tables="float32"``.
        changes: arguments of the sampler that replace the configuration's, such as ``eta``.

    Raises:
        BadInput: a scheduler or a knob's value that has no counterpart here, or one that breaks its rule.
    """
    name = str(config.get("_class_name"))
    if name not in _SCHEDULERS:
        raise BadInput(
            f"a scheduler must be one of {', '.join(SCHEDULERS)}", got=name, fix="build a sampler of samplers yourself"
        )
    kind = _SCHEDULERS[name]
    for knob, (needed, default) in kind.needs.items():
        if config.get(knob, default) not in (needed, None):
            raise BadInput(f"{knob} of {name} must be {needed}", got=config.get(knob, default), fix="build another one")
    given = {knob: config.get(knob, default) for knob, default in kind.knobs.items()}
    given = {knob: value for knob, value in given.items() if value is not None} | dict(kind.fixed) | changes
    if given.get("lambda_min_clipped") in (float("-inf"), "-inf"):
        del given["lambda_min_clipped"]
    if given.get("thresholding") and given.get("clip_sample"):
        given["clip_sample"] = False  # diffusers thresholds where both are on
    if given.get("variance_type") == "fixed_small_log":
        given["variance_type"] = "fixed_small"  # the same number, by way of its logarithm
    import samplers

    return getattr(samplers, kind.method)(schedule or _schedule(config, kind), num_inference_steps, **given)


def _schedule(config: Mapping[str, Any], kind: _Scheduler) -> NoiseSchedule:
    betas = {**_BETAS, **kind.betas}
    given = {name: config[name] if config.get(name) is not None else default for name, default in betas.items()}
    if given["trained_betas"] is not None:
        del given["beta_schedule"]  # not used then, and often one that has no formula here
    return NoiseSchedule(**given)
