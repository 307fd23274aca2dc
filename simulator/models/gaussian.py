"""Gaussian data: every quantity of diffusion sampling in closed form, one eigen-direction of the covariance at a time.

With covariance U diag(s_i^2) U^T, the forward process keeps U: x_t has the variances abar s_i^2 + 1 - abar along it,
and the exact prediction is affine in x_t (``exact_denoiser.regression``), with a Jacobian that does not depend on x_t.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from samplers.errors import BadInput
from simulator.models.exact_denoiser import ExactDenoiser, regression, require_alpha_cumprod

if TYPE_CHECKING:
    from samplers.schedule import NoiseSchedule
    from simulator.models.exact_denoiser import AlphaCumprod

Array = NDArray[np.float64]

ORTHONORMAL = 1e-10
"""Largest entry of U^T U - I that a basis may have."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(mean, basis diag(variances) basis^T) on R^d.

    Args:
        mean: (d,).
        variances: (d,), at least 0; along the axes, or along the basis where one is given.
        basis: (d, d), orthonormal, one eigenvector per column; None for the axes themselves.

    Raises:
        BadInput: shapes that do not fit, a number that is not finite, a negative variance, or a basis that is not
            orthonormal to 1e-10.
    """

    mean: Array
    variances: Array
    basis: Array | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "variances", "basis"):
            if getattr(self, name) is not None:
                values = np.array(getattr(self, name), np.float64)
                values.setflags(write=False)
                object.__setattr__(self, name, values)
                if not np.isfinite(values).all():
                    raise BadInput(f"{name} must be finite", got=values, fix="check its source")
        d = self.mean.size
        shapes = (self.mean.shape, self.variances.shape, None if self.basis is None else self.basis.shape)
        if not d or shapes[:2] != ((d,), (d,)) or shapes[2] not in (None, (d, d)):
            raise BadInput(
                "mean and variances must be (d,) and the basis (d, d)", got=shapes, fix="flatten images to rows"
            )
        if (self.variances < 0).any():
            raise BadInput("variances must be at least 0", got=self.variances.min(), fix="pass variances")
        if self.basis is not None and np.abs(self.basis.T @ self.basis - np.eye(d)).max() > ORTHONORMAL:
            raise BadInput(
                "the basis must be orthonormal", got="columns that are not", fix="use Gaussian.from_covariance"
            )

    @classmethod
    def standard(cls, dimension: int) -> Gaussian:
        """N(0, I), from which samplers start."""
        return cls(np.zeros(dimension), np.ones(dimension))

    @classmethod
    def from_covariance(cls, mean: ArrayLike, covariance: ArrayLike) -> Gaussian:
        """N(mean, covariance); eigenvalues below 0 by rounding (1e-12 of the largest) become 0.

        Raises:
            BadInput: the covariance is not symmetric (to 1e-12 of its largest entry), or has a negative eigenvalue.
        """
        matrix = np.asarray(covariance, np.float64)
        size = np.abs(matrix).max(initial=0.0)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or np.abs(matrix - matrix.T).max() > 1e-12 * size:
            raise BadInput("a covariance must be a symmetric matrix", got=matrix.shape, fix="pass (C + C.T) / 2")
        values, vectors = np.linalg.eigh(matrix)
        if values[0] < -1e-12 * size:
            raise BadInput("a covariance must have no negative eigenvalue", got=values[0], fix="check its source")
        return cls(np.asarray(mean, np.float64), np.maximum(values, 0.0), vectors)

    @classmethod
    def stationary(cls, power: ArrayLike, mean: float = 0.0) -> Gaussian:
        """A stationary image on a torus, flattened row by row: the covariance of two pixels depends on their offset.

        The covariance is that of a periodic random field with power spectrum ``power``: power(u, v) is the variance
        along frequency (u, v) in cycles per image, and the pixels' variance is the mean of all. Basis: the Hartley
        functions cas(2 pi (u i / h + v j / w)) / sqrt(h w), cas = cos + sin, which are real and orthonormal.

        Args:
            power: (h, w), with power(u, v) = power(-u, -v), indices modulo h and w.
            mean: of every pixel.

        Raises:
            BadInput: power without that symmetry, or of another rank.
        """
        values = np.asarray(power, np.float64)
        if values.ndim != 2 or not np.allclose(values, np.roll(values[::-1, ::-1], 1, (0, 1)), rtol=1e-12, atol=0):
            raise BadInput(
                "the power spectrum must be (h, w) with power(u, v) = power(-u, -v)",
                got=f"shape {values.shape}",
                fix="average it with its reflection",
            )
        h, w = values.shape
        rows, columns = (np.outer(np.arange(n), np.arange(n)) / n for n in (h, w))
        angle = 2 * np.pi * (rows[:, None, :, None] + columns[None, :, None, :]).reshape(h * w, h * w)
        return cls(np.full(h * w, mean), values.reshape(-1), (np.cos(angle) + np.sin(angle)) / np.sqrt(h * w))

    @property
    def dimension(self) -> int:
        """d."""
        return len(self.mean)

    @property
    def covariance(self) -> Array:
        """(d, d)."""
        return self.matrix(self.variances)

    def matrix(self, along: Array) -> Array:
        """(d, d) with these eigenvalues (d,) along the basis."""
        return np.diag(along) if self.basis is None else (self.basis * along) @ self.basis.T

    def rotate(self, rows: ArrayLike) -> Array:
        """Coordinates (..., d) along the basis."""
        rows = np.asarray(rows, np.float64)
        return rows if self.basis is None else rows @ self.basis

    def unrotate(self, rows: ArrayLike) -> Array:
        """The inverse of :meth:`rotate`."""
        rows = np.asarray(rows, np.float64)
        return rows if self.basis is None else rows @ self.basis.T

    def marginal(self, abar: float) -> Gaussian:
        """Distribution of x_t: N(sqrt(abar) mean, abar covariance + (1 - abar) I); the data itself at abar = 1.

        Raises:
            BadInput: abar outside [0, 1].
        """
        abar = require_alpha_cumprod(abar)
        return Gaussian(abar**0.5 * self.mean, abar * self.variances + (1 - abar), self.basis)

    def log_density(self, x: ArrayLike) -> Array:
        """Natural logarithm of the density at rows x: (n, d) to (n,). The log-likelihood is its sum.

        Raises:
            BadInput: a variance is 0, so that there is no density.
        """
        if (self.variances == 0).any():
            raise BadInput("a density needs variances above 0", got="0", fix="take the marginal at abar < 1")
        centred = self.rotate(np.asarray(x, np.float64) - self.mean)
        return -0.5 * (centred**2 / self.variances + np.log(2 * np.pi * self.variances)).sum(-1)

    def sample(self, count: int, generator: np.random.Generator) -> Array:
        """Independent draws, (count, d)."""
        normals = generator.standard_normal((count, self.dimension))
        return self.mean + self.unrotate(normals * np.sqrt(self.variances))

    def predict(self, x: ArrayLike, abar: float, prediction_type: str = "epsilon") -> Array:
        """E[epsilon | x_t = x], E[x0 | x] or E[v | x] for rows x (n, d); abar in (0, 1)."""
        gain, offset = regression(prediction_type, abar, self.variances)
        centred = np.asarray(x, np.float64) - abar**0.5 * self.mean
        return offset * self.mean + self.unrotate(gain * self.rotate(centred))

    def gains(self, abar: float, prediction_type: str = "epsilon") -> Array:
        """Eigenvalues of the Jacobian, (d,), along the basis."""
        return np.broadcast_to(regression(prediction_type, abar, self.variances)[0], self.variances.shape)

    def jacobian(self, abar: float, prediction_type: str = "epsilon") -> Array:
        """Derivative of :meth:`predict` by x, (d, d), the same for every x and symmetric."""
        return self.matrix(self.gains(abar, prediction_type))

    def denoiser(self, alpha_cumprod: NoiseSchedule | AlphaCumprod, prediction_type: str = "epsilon") -> ExactDenoiser:
        """The exact network."""
        return GaussianDenoiser(self, alpha_cumprod, prediction_type)


class GaussianDenoiser(ExactDenoiser):
    """x - sqrt(abar) m, along the basis, times the gain of each direction, and back.

    With a basis it has two sites, ``linear`` and ``linear#1``, whose weight is the basis; along the axes it has none,
    and cannot be quantized. Source: :func:`~simulator.models.exact_denoiser.regression`.
    """

    mean: Tensor
    variances: Tensor

    def __init__(
        self, data: Gaussian, alpha_cumprod: NoiseSchedule | AlphaCumprod, prediction_type: str = "epsilon"
    ) -> None:
        super().__init__(alpha_cumprod, prediction_type)
        self.data = data
        self.register_buffer("mean", torch.tensor(data.mean))
        self.register_buffer("variances", torch.tensor(data.variances))
        basis = torch.empty(0, 0) if data.basis is None else torch.tensor(data.basis)
        # each product's weight as it is multiplied, in both precisions: a weight is recognised by its memory
        for name, matrix in (("into", basis.T), ("out_of", basis)):
            self.register_buffer(f"{name}_float64", matrix.contiguous())
            self.register_buffer(f"{name}_float32", matrix.float().contiguous())

    def predict(self, x: Tensor, abar: Tensor) -> Tensor:
        """See :meth:`ExactDenoiser.predict`."""
        gain, offset = regression(self.prediction_type, abar, self.variances)
        centred = x - (abar**0.5 * self.mean).to(x.dtype)
        scaled = self._turn("out_of", gain.to(x.dtype) * self._turn("into", centred))
        return scaled if self.prediction_type == "epsilon" else scaled + (offset * self.mean).to(x.dtype)

    def _turn(self, which: str, rows: Tensor) -> Tensor:
        if self.data.basis is None:
            return rows
        precision = "float64" if rows.dtype == torch.float64 else "float32"
        return F.linear(rows, getattr(self, f"{which}_{precision}"))
