"""Mixtures of Gaussians with diagonal covariances: exact density, posterior mean and samples at every noise level.

With components of weight w_k, mean m_k and variances s_k^2, x_t is the mixture of N(sqrt(abar) m_k, V_k),
V_k = abar s_k^2 + 1 - abar. The exact prediction is the mean of the components' own predictions
(``exact_denoiser.regression``), weighted by the responsibilities r_k(x), the posterior probabilities of the components.
Variances of 0 are allowed: points, such as a data set (``simulator.models.empirical``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from torch import Tensor

from samplers.errors import BadInput
from simulator.models.exact_denoiser import ExactDenoiser, regression, require_alpha_cumprod

if TYPE_CHECKING:
    from samplers.schedule import NoiseSchedule
    from simulator.models.exact_denoiser import AlphaCumprod

Array = NDArray[np.float64]

AT_ONCE = 1 << 22
"""Elements of (rows, components, d) in memory at a time."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """sum_k weights_k N(means_k, diag(variances_k)) on R^d.

    Args:
        weights: (k,), above 0; divided by their sum.
        means: (k, d).
        variances: (k, d), or what broadcasts to it: a number, (d,) shared by all, (k, 1); at least 0.

    Raises:
        BadInput: shapes that do not fit, a number that is not finite, a weight that is not above 0, or a negative
            variance.
    """

    weights: Array
    means: Array
    variances: Array

    def __post_init__(self) -> None:
        weights, means, variances = (
            np.array(v, np.float64) for v in (self.weights, self.means, self.variances)
        )  # fmt: skip
        if means.ndim != 2 or not means.size or weights.shape != means.shape[:1]:
            raise BadInput(
                "weights must be (k,) and means (k, d)", got=f"{weights.shape} and {means.shape}", fix="add axes"
            )
        try:
            variances = np.broadcast_to(variances, means.shape).copy()
        except ValueError:
            raise BadInput(
                "variances must broadcast to the means", got=f"{variances.shape} for {means.shape}", fix="pass (k, d)"
            ) from None
        for name, values in (("weights", weights), ("means", means), ("variances", variances)):
            if not np.isfinite(values).all():
                raise BadInput(f"{name} must be finite", got=values, fix="check their source")
        if (weights <= 0).any() or (variances < 0).any():
            raise BadInput(
                "weights must be above 0 and variances at least 0",
                got=f"{weights.min()} and {variances.min()}",
                fix="leave out components without weight",
            )
        weights = weights / weights.sum()
        for name, values in (("weights", weights), ("means", means), ("variances", variances)):
            values.setflags(write=False)
            object.__setattr__(self, name, values)

    @property
    def dimension(self) -> int:
        """d."""
        return self.means.shape[1]

    @property
    def components(self) -> int:
        """k."""
        return len(self.weights)

    @cached_property
    def mean(self) -> Array:
        """(d,)."""
        return self.weights @ self.means

    @cached_property
    def covariance(self) -> Array:
        """(d, d)."""
        centred = self.means - self.mean
        return (centred.T * self.weights) @ centred + np.diag(self.weights @ self.variances)

    def marginal(self, abar: float) -> Mixture:
        """Distribution of x_t: components N(sqrt(abar) m_k, abar s_k^2 + 1 - abar).

        Raises:
            BadInput: abar outside [0, 1].
        """
        abar = require_alpha_cumprod(abar)
        return Mixture(self.weights, abar**0.5 * self.means, abar * self.variances + (1 - abar))

    def along(self, direction: ArrayLike) -> Mixture:
        """Distribution of the projection x . direction, a mixture on R^1; an int names a coordinate.

        Args:
            direction: (d,), of any length above 0, or an index.
        """
        given = np.asarray(direction)
        a = np.eye(self.dimension)[given] if given.ndim == 0 else given.astype(np.float64)
        return Mixture(self.weights, (self.means @ a)[:, None], (self.variances @ a**2)[:, None])

    def log_density(self, x: ArrayLike) -> Array:
        """Natural logarithm of the density at rows x: (n, d) to (n,). The log-likelihood is its sum.

        Raises:
            BadInput: a variance is 0, so that there is no density.
        """
        return np.concatenate([logsumexp(log, axis=1) for _, log in self._joint(x)])

    def responsibilities(self, x: ArrayLike) -> Array:
        """Posterior probability of each component at rows x: (n, d) to (n, k), rows of sum 1."""
        return np.concatenate([_softmax(log) for _, log in self._joint(x)])

    def sample(self, count: int, generator: np.random.Generator) -> Array:
        """Independent draws, (count, d)."""
        chosen = generator.choice(self.components, size=count, p=self.weights)
        normals = generator.standard_normal((count, self.dimension))
        return self.means[chosen] + np.sqrt(self.variances[chosen]) * normals

    def predict(self, x: ArrayLike, abar: float, prediction_type: str = "epsilon") -> Array:
        """E[epsilon | x_t = x], E[x0 | x] (the optimal denoiser) or E[v | x] for rows x (n, d); abar in (0, 1)."""
        parts = []
        for rows, log in self.marginal(abar)._joint(x):
            own = self._own(rows, abar, prediction_type)
            parts.append((_softmax(log)[:, :, None] * own).sum(1))
        return np.concatenate(parts)

    def jacobian(self, x: ArrayLike, abar: float, prediction_type: str = "epsilon") -> Array:
        """Derivative of :meth:`predict` by x, (n, d, d).

        With f_k the components' predictions, of gain g_k, and s_k(x) = grad log N(x; sqrt(abar) m_k, V_k), it is
        diag(sum_k r_k g_k) + sum_k r_k f_k (s_k - sum_j r_j s_j)^T, since grad r_k = r_k (s_k - sum_j r_j s_j).
        """
        of_x = self.marginal(abar)
        gain = np.broadcast_to(regression(prediction_type, abar, self.variances)[0], self.means.shape)
        parts = []
        for rows, log in of_x._joint(x):
            r, own = _softmax(log), self._own(rows, abar, prediction_type)
            slope = (of_x.means - rows[:, None]) / of_x.variances
            slope = slope - (r[:, :, None] * slope).sum(1, keepdims=True)
            found = np.einsum("nk,nki,nkj->nij", r, own, slope, optimize=True)
            diagonal = np.arange(self.dimension)
            found[:, diagonal, diagonal] += r @ gain
            parts.append(found)
        return np.concatenate(parts)

    def denoiser(self, alpha_cumprod: NoiseSchedule | AlphaCumprod, prediction_type: str = "epsilon") -> ExactDenoiser:
        """The exact network."""
        return MixtureDenoiser(self, alpha_cumprod, prediction_type)

    def _own(self, rows: Array, abar: float, prediction_type: str) -> Array:
        """Each component's prediction, (n, k, d)."""
        gain, offset = regression(prediction_type, abar, self.variances)
        return offset * self.means + gain * (rows[:, None] - abar**0.5 * self.means)

    def _joint(self, x: ArrayLike) -> Iterator[tuple[Array, Array]]:
        """Some rows of x at a time, with log(w_k N(x; m_k, s_k^2)), (rows, k)."""
        if (self.variances == 0).any():
            raise BadInput("a density needs variances above 0", got="0", fix="take the marginal at abar < 1")
        rows = np.asarray(x, np.float64).reshape(-1, self.dimension)
        constant = np.log(self.weights) - 0.5 * np.log(2 * np.pi * self.variances).sum(1)
        step = max(AT_ONCE // self.means.size, 1)
        for start in range(0, max(len(rows), 1), step):
            part = rows[start : start + step]
            yield part, constant - 0.5 * ((part[:, None] - self.means) ** 2 / self.variances).sum(-1)


def _softmax(log: Array) -> Array:
    r = np.exp(log - log.max(1, keepdims=True))
    return r / r.sum(1, keepdims=True)


class MixtureDenoiser(ExactDenoiser):
    """Responsibilities by a softmax of log densities, then their product with the components' predictions.

    The product is a site, ``matmul``, of two run-time operands: probabilities, and predictions (n, k, d); the rest
    stays in float. Memory grows with n k d.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor

    def __init__(
        self, data: Mixture, alpha_cumprod: NoiseSchedule | AlphaCumprod, prediction_type: str = "epsilon"
    ) -> None:
        super().__init__(alpha_cumprod, prediction_type)
        self.data = data
        for name in ("weights", "means", "variances"):
            self.register_buffer(name, torch.tensor(getattr(data, name)))

    def predict(self, x: Tensor, abar: Tensor) -> Tensor:
        """See :meth:`ExactDenoiser.predict`."""
        abar = abar[:, None]
        of_x = abar * self.variances + (1 - abar)
        centred = x[:, None] - (abar**0.5 * self.means).to(x.dtype)
        constant = self.weights.log() - 0.5 * of_x.log().sum(-1)
        logits = constant.to(x.dtype) - 0.5 * (centred**2 / of_x.to(x.dtype)).sum(-1)
        gain, offset = regression(self.prediction_type, abar, self.variances)
        own = (offset * self.means).to(x.dtype) + gain.to(x.dtype) * centred
        return torch.matmul(torch.softmax(logits, -1)[:, None], own)[:, 0]
