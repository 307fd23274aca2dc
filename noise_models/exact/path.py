"""Gaussian data under a linear sampler: mean and covariance of x after every call of the network, exactly.

The exact prediction is affine in x_t along every eigen-direction of the data's covariance, and so is each update, with
earlier predictions too. So every x, x0 and epsilon of the run is one linear form of the constant 1, the initial noise,
the fresh noise z_i of each step and, where noise is added to epsilon, that noise w_i, all independent and of unit
variance. A path carries the coefficients of these forms: the mean is that of the constant, the variance the sum of the
others' squares. Nothing is subtracted, and multistep methods need no rule of their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noise_models.exact.divergences import same_basis
from noise_models.propagation.error_recursion import require_linear
from samplers.coefficients import Update, history_length, timestep_array
from samplers.errors import BadInput
from samplers.sampler import Sampler
from simulator.models.exact_denoiser import regression
from simulator.models.gaussian import Array, Gaussian


@dataclass(frozen=True, eq=False)
class GaussianPath:
    """Distributions of x along a run, in the data's eigen-directions.

    Args:
        basis: (d, d), one direction per column; None for the axes.
        mean: (n + 1, d), of x before each call of the network and after the last.
        variance: (n + 1, d), likewise; the covariance is diagonal in this basis.
        added_variance: (n + 1, d), the part of it that stems from noise added to epsilon: the mean squared difference
            from a run of the same updates without that noise, on shared initial and step noise.
        alpha_cumprod: (n + 1,), the noise level that each x stands for.
        timestep: (n,), of each call.
    """

    basis: Array | None
    mean: Array
    variance: Array
    added_variance: Array
    alpha_cumprod: Array
    timestep: NDArray[np.int64] | NDArray[np.float64]

    def at(self, index: int) -> Gaussian:
        """Distribution of x before call ``index``; -1 is that of the finished samples."""
        mean = self.mean[index] if self.basis is None else self.basis @ self.mean[index]
        return Gaussian(mean, self.variance[index], self.basis)


def linear_updates(sampler: Sampler, updates: Sequence[Update] | None = None) -> tuple[Update, ...]:
    """The sampler's updates, or those in their place, if they are linear in what the network predicts.

    Raises:
        BadInput: the sampler clips x0 or takes its noise from the network, or there is no update.
    """
    require_linear(sampler)
    found = tuple(sampler.updates if updates is None else updates)
    if not found:
        raise BadInput("a run needs an update", got="none", fix="pass the sampler's")
    return found


def gaussian_path(
    sampler: Sampler,
    data: Gaussian,
    *,
    updates: Sequence[Update] | None = None,
    start: Gaussian | None = None,
    epsilon_variance: ArrayLike | None = None,
) -> GaussianPath:
    """Distribution of x at every step of ``sampler`` with the exact epsilon of ``data``.

    x_{i+1} = x0_coefficient x0 + x_coefficient x_i + epsilon_coefficient epsilon + noise_coefficient z_i + sum_j
    (history[j].x0_coefficient x0^(j) + history[j].epsilon_coefficient epsilon^(j)), with x0 and epsilon affine in x_i
    (``simulator.models.exact_denoiser.regression``). With ``epsilon_variance`` q_i the network's epsilon has noise
    sqrt(q_i) w_i added, independent of x_i, which reaches x0 as -sqrt((1 - abar) / abar) sqrt(q_i) w_i.

    Time grows with n^2 d.

    Args:
        sampler: linear; of any prediction_type, since exact predictions agree.
        data: the distribution that the network is exact for.
        updates: in place of the sampler's own, as a correction changes them.
        start: distribution of the first x, with the data's basis (``data.marginal``) or of equal variances; N(0, I) if
            None, which is what samplers start from, times the sampler's ``init_noise_sigma`` where it has one.
        epsilon_variance: a number, or (n,), at least 0.

    Raises:
        BadInput: a sampler that clips, a start in another basis, variances that do not fit, or noise at abar = 0.
    """
    steps = linear_updates(sampler, updates)
    added = per_step(epsilon_variance, steps)
    scale = float(getattr(sampler, "init_noise_sigma", 1.0))
    mean, deviation = _start(start or Gaussian(np.zeros(data.dimension), np.full(data.dimension, scale**2)), data)
    own = data.rotate(data.mean)
    noisy = bool(added.any())
    form = np.zeros((2 + len(steps) * (1 + noisy), data.dimension))  # rows: 1, initial noise, z_i, w_i
    form[0], form[1] = mean, deviation
    moments = [_moments(form, len(steps))]
    earlier: deque[tuple[Array, Array]] = deque(maxlen=history_length(steps))
    for i, update in enumerate(steps):
        abar = float(update.alpha_cumprod)
        x0, epsilon = (_predicted(kind, form, abar, data.variances, own) for kind in ("sample", "epsilon"))
        if added[i]:
            epsilon[2 + len(steps) + i] = added[i] ** 0.5
            x0[2 + len(steps) + i] = -(((1 - abar) / abar * added[i]) ** 0.5)
        form = (
            float(update.x0_coefficient) * x0
            + float(update.x_coefficient) * form
            + float(update.epsilon_coefficient) * epsilon
        )
        for weights, (x0_before, epsilon_before) in zip(update.history, earlier, strict=False):
            form += float(weights.x0_coefficient) * x0_before + float(weights.epsilon_coefficient) * epsilon_before
        form[2 + i] += update.c
        earlier.appendleft((x0, epsilon))
        moments.append(_moments(form, len(steps)))
    levels = [float(u.alpha_cumprod) for u in steps] + [float(steps[-1].alpha_cumprod_previous)]
    means, variances, parts = (np.array(values) for values in zip(*moments, strict=True))
    return GaussianPath(data.basis, means, variances, parts, np.array(levels), timestep_array(steps))


def _moments(form: Array, steps: int) -> tuple[Array, Array, Array]:
    """Mean, variance, and the part of it from noise added to epsilon, whose rows come last."""
    squares = form[1:] ** 2
    return form[0].copy(), squares.sum(0), squares[1 + steps :].sum(0)


def _predicted(kind: str, form: Array, abar: float, variances: Array, mean: Array) -> Array:
    """The form of an exact prediction, from that of x."""
    gain, offset = regression(kind, abar, variances)
    found = gain * form
    found[0] += offset * mean - gain * abar**0.5 * mean
    return found


def per_step(values: ArrayLike | None, steps: Sequence[Update]) -> Array:
    """Variances of added noise, (len(steps),).

    Raises:
        BadInput: another shape, a negative variance, one that is not finite, or one at abar = 0, where epsilon says
            nothing of x0.
    """
    given = np.asarray(0.0 if values is None else values, np.float64)
    count = len(steps)
    if given.shape not in ((), (count,)) or not np.isfinite(given).all() or (given < 0).any():
        raise BadInput(
            f"epsilon_variance must be a number or ({count},), finite and at least 0", got=given, fix="pass variances"
        )
    added = np.broadcast_to(given, count)
    if any(q > 0 and np.isnan(update.b) for q, update in zip(added, steps, strict=True)):
        raise BadInput(
            "noise of epsilon reaches x0 only where abar is above 0", got="a step from abar = 0 with noise",
            fix="pass one variance for each step, 0 there",
        )  # fmt: skip
    return added


def _start(start: Gaussian, data: Gaussian) -> tuple[Array, Array]:
    """Mean and standard deviation of the first x along the data's directions."""
    if start.dimension != data.dimension or not (same_basis(start, data) or np.ptp(start.variances) == 0):
        raise BadInput(
            "the start must have the data's directions, or equal variances", got="others", fix="use data.marginal(abar)"
        )
    return data.rotate(start.mean), start.variances**0.5
