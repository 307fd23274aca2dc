"""Absorption: residual noise stands in for part of the fresh noise that a step adds anyway.

With x_{t-1} = a x_t + b epsilon + c z, an error of variance sigma_q^2 on epsilon^, divided by 1 + k by the correction,
adds lambda^2 sigma_q^2 to x_{t-1}, where lambda = b / (1 + k). PTQD (He et al. 2023, section 4.3) therefore lowers the
step's own noise to sigma'^2 = max(sigma^2 - lambda^2 sigma_q^2, 0). In its formulas, both of which are this lambda:

- DDIM: lambda = [sqrt(1 - abar' - sigma^2) - sqrt(abar' (1 - abar) / abar)] / (1 + k), since b = epsilon_coefficient
  - x0_coefficient sqrt(1 - abar) / sqrt(abar) with x0_coefficient = sqrt(abar').
- DDPM: lambda^2 = beta^2 / (alpha (1 - abar) (1 + k)^2), since x0_coefficient = sqrt(abar') beta / (1 - abar) and
  b = -x0_coefficient sqrt(1 - abar) / sqrt(abar) = -beta / sqrt(alpha (1 - abar)), alpha = abar / abar' = 1 - beta.

Every other stochastic sampler here is a list of such updates, so lambda = b / (1 + k) is its formula too. A multistep
update also uses earlier predictions, and with them their noise. Given x_t and those predictions that noise is known: it
is no part of the step's own variance, so it is not absorbed (``noise_models.absorption.carried`` accounts for it over a
run).

Absorption restores the variance of x_{t-1} given x_t and the earlier predictions, that of the same sampler without
quantization noise, for residuals independent of x_t and z: a statement about the distribution. Paired with full
precision on shared noise, the step's error grows by design, from lambda^2 sigma_q^2 to
lambda^2 sigma_q^2 + (sigma - sigma')^2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from samplers.coefficients import Update
from samplers.ddim import ddim_with_sigma
from samplers.errors import BadInput
from samplers.validation import require_choice, require_real

VARIANTS = ("paper", "released")


def lambda_weight(update: Update, k: float = 0.0) -> float:
    """lambda = b / (1 + k): weight in x_{t-1} of residual noise on epsilon, after the correction's division."""
    return update.b / (1 + k)


def absorb(update: Update, k: float, residual_variance: float, variant: str = "paper") -> Update:
    """The update with its noise lowered to sigma'^2 = max(c^2 - lambda^2 sigma_q^2, 0).

    - ``paper``: the mean stays (a and b unchanged), so that the one-step variance is restored wherever
      lambda^2 sigma_q^2 <= c^2; elsewhere lambda^2 sigma_q^2 - c^2 remains.
    - ``released``: as the authors' code, the direction term is recomputed with sigma', sqrt(1 - abar' - sigma'^2). That
      moves the mean coefficient b, and most of the excess variance stays. It is defined by DDIM's formula, so any other
      update is refused rather than rewritten: DDIM with eta = 1 is DDPM's fixed_small sampler.

    Where the network predicts the variance, ``paper`` takes lambda^2 sigma_q^2 out of each element's own, as far as it
    reaches: each element's one-step variance is restored where its sigma^2 is no smaller.

    An update that adds no noise (eta = 0, DDPM's last step), or residual noise of variance 0, is returned as it is. At
    abar = 0 epsilon has no weight of its own, so any other is refused.

    Args:
        update: the sampler's own.
        k: slope of the noise on epsilon, above -1.
        residual_variance: sigma_q^2, at least 0.
        variant: ``paper`` or ``released``.

    Raises:
        BadInput: an argument breaks its rule, ``released`` with an update that is not DDIM's, or a step from abar = 0.
    """
    require_choice("variant", variant, VARIANTS)
    k, residual_variance = require_real("k", k), require_real("residual_variance", residual_variance)
    if k <= -1:
        raise BadInput("k must be above -1", got=k, fix="a slope of -1 leaves no signal to correct")
    if residual_variance < 0:
        raise BadInput("residual_variance must be at least 0", got=residual_variance, fix="pass a variance")
    if variant == "released" and not _is_ddim(update):
        raise BadInput(
            'variant="released" needs a DDIM update',
            got=f"another one, at timestep {update.timestep}",
            fix='sample with DDIM, eta = 1 (the same sampler as DDPM fixed_small), or use variant="paper"',
        )
    if update.c == 0 or residual_variance == 0:
        return update
    require_weights([update], of_noise=update.learned is None)
    absorbed = lambda_weight(update, k) ** 2 * residual_variance
    if absorbed == 0:
        return update
    if update.learned is not None:
        return update.less_noise(absorbed)
    sigma = math.sqrt(max(update.c**2 - absorbed, 0.0))
    return update.with_noise(sigma) if variant == "paper" else ddim_with_sigma(update, sigma)


def require_weights(updates: Sequence[Update], *, of_noise: bool = True) -> None:
    """Refuse updates without one weight of epsilon, or without one weight of fresh noise.

    Args:
        updates: in loop order.
        of_noise: False where each element's own noise will do.

    Raises:
        BadInput: naming the step: it starts from abar = 0 (rescale_betas_zero_snr), where epsilon says nothing of x0,
            or the network predicts its noise.
    """
    for step, update in enumerate(updates):
        if math.isnan(update.b) or (of_noise and math.isnan(update.c)):
            raise BadInput(
                "absorption needs steps of one weight of epsilon and one of fresh noise",
                got=f"b = {update.b} and c = {update.c} at step {step}, timestep {update.timestep}",
                fix="sample from abar > 0 and with a fixed variance, or correct without absorption",
            )


def absorbable_bound(update: Update) -> float:
    """c^2 / b^2: the largest residual variance that the update can absorb in full, for k = 0.

    For another k multiply by (1 + k)^2. 0 where the update adds no noise; inf where it adds some and ignores epsilon.
    """
    if update.c == 0:
        return 0.0
    return math.inf if update.b == 0 else (update.c / update.b) ** 2


def _is_ddim(update: Update) -> bool:
    """Whether DDIM's formula gives back this very update."""
    if float(update.x_coefficient) != 0 or update.history or update.c**2 > 1 - float(update.alpha_cumprod_previous):
        return False
    return ddim_with_sigma(update, update.c) == update
