"""D2-DPM's correction (Zeng et al. 2025, arXiv:2501.08180): take out what the quantized prediction tells of its noise.

Quantized prediction h = epsilon + Delta and noise Delta are taken for jointly Gaussian, per step and channel. With
rho their correlation, slope = rho s_Delta / s_h and v = s_Delta^2 (1 - rho^2),

    Delta given h ~ N(mu_Delta + slope (h - mu_h), v).

- ``mean`` subtracts the mean: epsilon' = E[epsilon | h], the linear prediction of least squared error. Its error has
  variance v and is uncorrelated with epsilon', so that epsilon' itself varies by v less than epsilon.
- ``sampled`` subtracts a draw: epsilon' is a draw from epsilon given h. Its variance is that of epsilon again, and
  its error has variance 2 v: the draw is independent of the noise that is there. The paired error doubles, by design.

Both weaken the prediction as a function of x_t, by the factor 1 - v / var(epsilon) where epsilon is linear in x_t: what
is uncertain is drawn to the mean. With g the slope of epsilon on x_t, the one-step variance of
x_{t-1} = a x_t + b epsilon + c z then lies off the noise-free sampler's by -2 a b v / g with ``sampled``, and by
-2 a b v / g - b^2 v with ``mean``: above it for b < 0. PTQD's division by 1 + k, whose error is independent of epsilon,
leaves b^2 sigma_q^2 / (1 + k)^2, far less on fine schedules, where abs(b) is small. Least paired error and the right
distribution are different aims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from noise_models.correction.fitted import finite_arrays, per_channel, require_use
from noise_models.correction.fitting import calibration_config
from noise_models.decomposition.observable import conditional_variance, observable_slope, observed
from noise_models.decomposition.split import split
from noise_models.inference.pooling import Array, Pooled, block_sums
from samplers.errors import BadInput
from samplers.noise import NoiseStream
from samplers.validation import require_bool, require_choice

if TYPE_CHECKING:
    from torch import Tensor

    from samplers.coefficients import Update

BY = ("channel", "step")

_PURPOSE = "d2dpm"


@dataclass(frozen=True, eq=False)
class D2DPM:
    """epsilon' = h - [mean_noise + slope (h - mean_output)], less sqrt(conditional_variance) times a normal if sampled.

    Made by :func:`fit_d2dpm`. The sampler's update stays as it is.

    Args:
        mean_output: mu_h, (step, channel).
        mean_noise: mu_Delta, likewise.
        slope: rho s_Delta / s_h.
        conditional_variance: v, at least 0.
        sampled: whether to subtract a draw instead of the mean.
        seed: of the draws, a stream of its own, addressed by step and sample: batches change nothing, and a sample's
            injected and accumulated noise meet the same draw.
        by: ``channel`` or ``step``: what shares one Gaussian.
        source: configuration of the run that it was fitted on, as plain JSON values.

    Raises:
        BadInput: an argument breaks its rule.
    """

    mean_output: Array
    mean_noise: Array
    slope: Array
    conditional_variance: Array
    sampled: bool
    seed: int
    by: str
    source: Mapping[str, Any]
    _stream: NoiseStream = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_bool("sampled", self.sampled)
        require_choice("by", self.by, BY)
        finite_arrays(self, "mean_output", "mean_noise", "slope", "conditional_variance")
        if (self.conditional_variance < 0).any():
            raise BadInput(
                "conditional_variance must be at least 0", got=self.conditional_variance.min(), fix="use fit_d2dpm"
            )
        object.__setattr__(self, "_stream", NoiseStream(self.seed, _PURPOSE))

    @property
    def name(self) -> str:
        """``d2dpm`` or ``d2dpm-sampled``; with ``-by-step`` where all channels share one Gaussian."""
        return "d2dpm" + "-sampled" * self.sampled + "-by-step" * (self.by == "step")

    def config(self) -> dict[str, Any]:
        """Settings and the configuration of the run fitted on, which determine every fitted value and every draw."""
        seed = {"seed": self.seed} if self.sampled else {}
        return {"name": self.name, "by": self.by, "sampled": self.sampled, **seed, "fit": dict(self.source)}

    def check(self, use: dict[str, Any]) -> None:
        """Refuse a run of another model, scheme or sampler, and one on the samples of the fit or on the draws' stream.

        Raises:
            BadInput: naming the field that differs.
        """
        require_use(self.source, use)
        if self.sampled and (use["purpose"], use["seed"]) == (_PURPOSE, self.seed):
            raise BadInput(
                "draws must be independent of the run's own noise",
                got=f"purpose {_PURPOSE!r} and seed {self.seed} for both",
                fix="take another seed",
            )

    def input(self, step: int, x: Tensor) -> Tensor:
        """Unchanged."""
        return x

    def epsilon(self, step: int, epsilon: Tensor, members: np.ndarray) -> Tensor:
        """The prediction less the mean, or a draw, of its noise; in its own dtype. (batch, channel, ...)."""
        slope, mean_output, mean_noise, variance = (
            epsilon.new_tensor(per_channel(values[step], epsilon.ndim))
            for values in (self.slope, self.mean_output, self.mean_noise, self.conditional_variance)
        )
        corrected = epsilon - (mean_noise + slope * (epsilon - mean_output))
        if not self.sampled or not self.conditional_variance[step].any():
            return corrected
        draw = self._stream.step(step, members, tuple(epsilon.shape[1:])).to(epsilon.dtype)
        return corrected - variance.sqrt() * draw

    def update(self, step: int, update: Update) -> Update:
        """Unchanged."""
        return update


def fit_d2dpm(dataset: xr.Dataset, *, by: str = "channel", sampled: bool = False, seed: int = 0) -> D2DPM:
    """Fit the joint Gaussian of h and Delta from a run's injected noise.

    A run records moments of (epsilon, Delta), and h = epsilon + Delta is linear in them: var h = yy + 2 ye + ee,
    cov(h, Delta) = ye + ee. The authors first drop elements whose noise is beyond 4 of its standard deviations. Moments
    cannot drop an element, so none is dropped here: :func:`outlier_share_bound` says how much of the noise's variance
    such elements can hold at most (a Gaussian's hold 0.1 %).

    Args:
        dataset: a run of purpose "calibrate", without a correction, with injected noise, 8 samples or more.
        by: ``channel``, each with its own Gaussian, or ``step``, one for all elements.
        sampled: see :class:`D2DPM`.
        seed: of the draws.

    Raises:
        BadInput: the dataset is not such a run, the quantized prediction does not vary, or the noise is not finite.
    """
    require_choice("by", by, BY)
    config = calibration_config(dataset)
    pooled, channels = (sums.total() for sums in split(dataset, "epsilon_injected"))
    found = joint_gaussian(channels if by == "channel" else pooled)
    if not np.isfinite(found).all():
        raise BadInput(
            "the quantized prediction must be finite and vary over the elements of every step",
            got="one that does not",
            fix="check the model, and that the run did not diverge",
        )
    shape = channels.mean_e.shape
    arrays = found if by == "channel" else [np.broadcast_to(values[:, None], shape) for values in found]
    mean_output, mean_noise, slope, variance = arrays
    return D2DPM(mean_output, mean_noise, slope, variance, sampled, seed, by, config)


def joint_gaussian(moments: Pooled) -> tuple[Array, Array, Array, Array]:
    """mu_h, mu_Delta, slope and v from moments of y = epsilon and e = Delta; slope and v 0 where there is no noise.

    rho is kept within +-0.9999, as in the authors' code, so that v stays above 0.
    """
    found = observed(moments)
    return found.mean_y, found.mean_e, observable_slope(found), conditional_variance(found)


def outlier_share_bound(dataset: xr.Dataset, deviations: float = 4.0) -> xr.DataArray:
    """Largest share of the noise's variance that elements beyond ``deviations`` can hold: min(1, kurtosis / d^2).

    For z of variance 1, E[z^2; abs(z) > d] <= E[z^4] / d^2. It is a bound and not an estimate: a Gaussian's is 0.19 at
    4 deviations, its share 0.001.

    Returns:
        (step, channel), NaN where there is no noise.
    """
    moments = dataset["epsilon_injected"]
    sums = block_sums(moments, dataset["epsilon_count"], order=4)
    total = sums.total()
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = np.minimum(1.0, total.central[0, 4] / total.variance_e**2 / deviations**2)
    attrs = {
        "units": "1",
        "long_name": "bound on the outliers' share of variance",
        "definition": f"min(1, kurtosis of Delta / {deviations:g}^2)",
    }
    return xr.DataArray(bound, dims=sums.dims, name="outlier_share_bound", attrs=attrs)
