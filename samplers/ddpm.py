"""DDPM ancestral sampling (Ho, Jain and Abbeel 2020) on a respaced schedule (Nichol and Dhariwal 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from samplers.coefficients import Update, transitions
from samplers.learned_variance import FLOOR, LearnedVariance
from samplers.method import Method
from samplers.table_arithmetic import Scalar, square_root
from samplers.validation import require_choice

FIXED_VARIANCES = ("fixed_small", "fixed_large")
VARIANCE_TYPES = (*FIXED_VARIANCES, "learned", "learned_range")


def ddpm_variance(alpha_cumprod: Scalar, alpha_cumprod_previous: Scalar, variance_type: str) -> Scalar:
    """sigma_t^2 of a step from abar to abar', with beta = 1 - abar / abar', in the arguments' dtype.

    ``fixed_small``: (1 - abar') / (1 - abar) beta, the posterior variance, exact for data at one point.
    ``fixed_large``: beta, exact for data N(0, I) (Ho et al., section 3.2).

    Raises:
        BadInput: unknown variance_type.
    """
    require_choice("variance_type", variance_type, FIXED_VARIANCES)
    beta = 1 - alpha_cumprod / alpha_cumprod_previous
    if variance_type == "fixed_large":
        return beta
    return (1 - alpha_cumprod_previous) / (1 - alpha_cumprod) * beta


def ddpm_update(
    timestep: float,
    previous_timestep: float,
    alpha_cumprod: Scalar,
    alpha_cumprod_previous: Scalar,
    variance_type: str,
) -> Update:
    """The ancestral update (eq. 7) for one abar and abar', with alpha = abar / abar' and beta = 1 - alpha.

    x0_coefficient = sqrt(abar') beta / (1 - abar), x_coefficient = sqrt(alpha) (1 - abar') / (1 - abar),
    noise_coefficient = sigma_t, or 0 where previous_timestep < 0 (the last step: Algorithm 2 has z = 0 there).

    Args:
        timestep: t, recorded in the update.
        previous_timestep: recorded likewise; negative marks the last step.
        alpha_cumprod: abar, a numpy float scalar; its dtype is the update's.
        alpha_cumprod_previous: abar', of the same dtype.
        variance_type: fixed_small or fixed_large; learned or learned_range put sqrt(beta) into noise_coefficient and
            say in ``learned`` how the network's output replaces it element by element.

    Raises:
        BadInput: unknown variance_type.
    """
    require_choice("variance_type", variance_type, VARIANCE_TYPES)
    alpha = alpha_cumprod / alpha_cumprod_previous
    beta = 1 - alpha
    small, large = (ddpm_variance(alpha_cumprod, alpha_cumprod_previous, fixed) for fixed in FIXED_VARIANCES)
    variance = small if variance_type == "fixed_small" else large
    learned = None
    if variance_type not in FIXED_VARIANCES and previous_timestep >= 0:
        learned = LearnedVariance(variance_type, max(float(small), FLOOR), float(large))
    zero = alpha_cumprod.dtype.type(0)
    return Update(
        timestep=timestep,
        previous_timestep=previous_timestep,
        alpha_cumprod=alpha_cumprod,
        alpha_cumprod_previous=alpha_cumprod_previous,
        x0_coefficient=square_root(alpha_cumprod_previous) * beta / (1 - alpha_cumprod),
        x_coefficient=square_root(alpha) * (1 - alpha_cumprod_previous) / (1 - alpha_cumprod),
        epsilon_coefficient=zero,
        noise_coefficient=zero if previous_timestep < 0 else square_root(variance),
        learned=learned,
    )


@dataclass(frozen=True)
class DDPM(Method):
    """Ancestral sampling with fixed or learned variance. The last step leads to abar' = 1 and adds no noise.

    ``updates[i]`` leads from ``timesteps[i]`` to ``timesteps[i + 1]``, as in diffusers' DDPMScheduler; with
    ``tables="float32"`` and a float32 state each step has diffusers' bits (its clip_sample=False).

    Difference from diffusers: it leaves the noise out where t == 0, we do at the last step. The two are the same rule
    unless the last timestep is above 0 (``trailing`` with n < T, or a steps_offset); there diffusers still adds noise
    to the finished sample: of standard deviation sqrt(1 - abar_t) with fixed_large, and 1e-10, its floor under the
    variance, with fixed_small. ``update.with_noise`` of that value reproduces it bit for bit.

    Args, beside those of :class:`samplers.method.Method`:
        variance_type: fixed_small, fixed_large, or learned or learned_range for networks whose output has a second half
            of channels (:class:`samplers.learned_variance.LearnedVariance`). A learned sigma differs between elements:
            ``update.c`` is then NaN and ``with_noise`` an error, and absorption takes its variance out of each
            element's own with :meth:`samplers.coefficients.Update.less_noise`.

    Raises:
        BadInput: an argument breaks its rule, or the network predicts epsilon and the run visits abar = 0.
    """

    variance_type: str = "fixed_small"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("variance_type", self.variance_type, VARIANCE_TYPES)
        self._require_signal()  # makes the updates, so that a bad spacing is found here and not in the loop

    @property
    def name(self) -> str:
        """The method: "ddpm"."""
        return "ddpm"

    @property
    def learns_variance(self) -> bool:
        """Whether variance_type is learned or learned_range."""
        return self.variance_type not in FIXED_VARIANCES

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """One :class:`Update` per step, in loop order."""
        final = self.schedule.alphas_cumprod.dtype.type(1)
        steps = transitions(self.schedule, self.timesteps, final)
        return tuple(ddpm_update(*step, self.variance_type) for step in steps)
