"""DDIM (Song, Meng and Ermon 2021): x_{t-1} = sqrt(abar') x0 + sqrt(1 - abar' - sigma^2) epsilon + sigma z."""

from __future__ import annotations

import dataclasses
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, SupportsFloat

from samplers.coefficients import Update, transitions
from samplers.errors import BadInput
from samplers.method import Method
from samplers.table_arithmetic import Scalar, square_root
from samplers.validation import require_bool, require_real


def ddim_sigma(alpha_cumprod: Scalar, alpha_cumprod_previous: Scalar, eta: float) -> Scalar:
    """sigma_t = eta sqrt((1 - abar') / (1 - abar)) sqrt(1 - abar / abar'), eq. 16, in the arguments' dtype."""
    variance = (1 - alpha_cumprod_previous) / (1 - alpha_cumprod) * (1 - alpha_cumprod / alpha_cumprod_previous)
    return eta * square_root(variance)


def ddim_update(
    timestep: float,
    previous_timestep: float,
    alpha_cumprod: Scalar,
    alpha_cumprod_previous: Scalar,
    sigma: SupportsFloat,
) -> Update:
    """The DDIM update (eq. 12) for one abar, abar' and sigma.

    x0_coefficient = sqrt(abar'), epsilon_coefficient = sqrt(1 - abar' - sigma^2), noise_coefficient = sigma.

    Args:
        timestep: t, recorded in the update.
        previous_timestep: recorded likewise.
        alpha_cumprod: abar, a numpy float scalar; its dtype is the update's.
        alpha_cumprod_previous: abar', of the same dtype.
        sigma: standard deviation of the fresh noise.

    Raises:
        BadInput: sigma < 0 or sigma^2 > 1 - abar'.
    """
    dtype = alpha_cumprod.dtype.type
    noise = dtype(require_real("sigma", sigma))
    direction_variance = 1 - alpha_cumprod_previous - noise * noise
    if noise < 0 or direction_variance < 0:
        raise BadInput(
            "sigma must satisfy 0 <= sigma and sigma^2 <= 1 - alpha_cumprod_previous",
            got=f"sigma={noise} with 1 - alpha_cumprod_previous={1 - alpha_cumprod_previous} at timestep {timestep}",
            fix="use a smaller sigma (or eta)",
        )
    return Update(
        timestep=timestep,
        previous_timestep=previous_timestep,
        alpha_cumprod=alpha_cumprod,
        alpha_cumprod_previous=alpha_cumprod_previous,
        x0_coefficient=square_root(alpha_cumprod_previous),
        x_coefficient=dtype(0),
        epsilon_coefficient=square_root(direction_variance),
        noise_coefficient=noise,
    )


def ddim_with_sigma(update: Update, sigma: SupportsFloat) -> Update:
    """The DDIM update between the same two timesteps with another sigma, in the direction term too.

    Unlike :meth:`Update.with_noise`, this moves the mean: epsilon_coefficient = sqrt(1 - abar' - sigma^2).

    Raises:
        BadInput: as :func:`ddim_update`.
    """
    return ddim_update(
        update.timestep, update.previous_timestep, update.alpha_cumprod, update.alpha_cumprod_previous, sigma
    )


def without_epsilon(update: Update) -> Update:
    """The same update in x0 and x_t alone, with epsilon = (x_t - sqrt(abar) x0) / sqrt(1 - abar) put in.

    Equal as long as epsilon is the one that goes with x0; with a clipped x0, epsilon follows it.
    """
    signal, noise = update.sqrt_alpha_cumprod, update.sqrt_one_minus_alpha_cumprod
    weight = update.epsilon_coefficient / noise
    return dataclasses.replace(
        update,
        x0_coefficient=update.x0_coefficient - weight * signal,
        x_coefficient=update.x_coefficient + weight,
        epsilon_coefficient=update.epsilon_coefficient.dtype.type(0),
    )


@dataclass(frozen=True)
class DDIM(Method):
    """The DDIM family: deterministic at eta = 0, ancestral sampling (DDPM with fixed_small) at eta = 1.

    ``updates[i]`` leads from ``timesteps[i]`` to ``timesteps[i + 1]``; the last one to abar' = 1 (set_alpha_to_one) or
    alphas_cumprod[0].

    Difference from diffusers: its DDIMScheduler takes the previous timestep as t - T // n, not as the next one it will
    visit. The two agree for ``leading`` with steps_offset < T // n, for ``trailing`` where n divides T, and at n = T or
    n = 1; elsewhere (``linspace`` in general) diffusers' step ends at another noise level than its next step starts
    from, and here it does not. Where they agree, ``tables="float32"`` and a float32 state give diffusers' bits (its
    clip_sample=False), for every prediction type and eta.

    Args, beside those of :class:`samplers.method.Method`:
        eta: at least 0; above 1 as long as 1 - abar' - sigma^2 stays non-negative at every step.
        set_alpha_to_one: what the last step leads to.
        use_clipped_model_output: take epsilon from the clipped x0, (x_t - sqrt(abar) x0) / sqrt(1 - abar). The update
            then combines x0 and x_t alone, equal to diffusers' up to rounding.

    Raises:
        BadInput: an argument breaks its rule, or the network predicts epsilon and the run visits abar = 0; for eta the
            message names the first step that does not allow it.
    """

    eta: float = 0.0
    _: KW_ONLY
    set_alpha_to_one: bool = True
    use_clipped_model_output: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "eta", require_real("eta", self.eta))
        require_bool("set_alpha_to_one", self.set_alpha_to_one)
        if self.eta < 0:
            raise BadInput("eta must be at least 0", got=self.eta, fix="use 0 for the deterministic sampler")
        require_bool("use_clipped_model_output", self.use_clipped_model_output)
        if self.use_clipped_model_output and self.clipping is None:
            raise BadInput(
                "use_clipped_model_output needs clip_sample or thresholding",
                got="neither",
                fix="switch one on; without them it changes nothing",
            )
        self._require_signal()  # makes the updates: an eta that some step does not allow is found here, not in the loop

    @property
    def name(self) -> str:
        """The method: "ddim"."""
        return "ddim"

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """One :class:`Update` per step, in loop order."""
        abar = self.schedule.alphas_cumprod
        final = abar.dtype.type(1) if self.set_alpha_to_one else abar[0]
        updates = []
        for index, step in enumerate(transitions(self.schedule, self.timesteps, final)):
            sigma = ddim_sigma(step.alpha_cumprod, step.alpha_cumprod_previous, self.eta)
            if 1 - step.alpha_cumprod_previous - sigma * sigma < 0:
                raise BadInput(
                    "eta must keep 1 - alpha_cumprod_previous - sigma^2 >= 0 at every step",
                    got=f"eta={self.eta}, sigma={sigma} at step {index} (timestep {step.timestep})",
                    fix="use a smaller eta; 1 is always allowed",
                )
            update = ddim_update(*step, sigma)
            updates.append(without_epsilon(update) if self.use_clipped_model_output else update)
        return tuple(updates)

    def config(self) -> dict[str, Any]:
        """As :meth:`samplers.method.Method.config`; use_clipped_model_output only where it is on."""
        values = super().config()
        if not values["use_clipped_model_output"]:
            del values["use_clipped_model_output"]
        return values
