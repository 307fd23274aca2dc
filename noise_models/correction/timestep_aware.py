"""Timestep-aware correction of the network's input, and of its output's scale (the family of TAC-Diffusion).

Yao et al. 2024 (arXiv:2407.03917) correct two things, per timestep and channel: the bias of the quantized run's x_t
against full precision's (input bias correction), and the scale of the prediction (noise estimation reconstruction).

Where this differs from the paper:

- Statistics are the moments of one calibration run of the uncorrected quantized network, so all steps are fitted at
  once; the paper goes from step to step along the corrected run.
- Only what the network sees is corrected, x' = scale x + shift; the update keeps the run's own x_t.
- ``least_squares`` and ``moments`` are ours: they move the scale of x_t as well as its mean.
- The output's gain minimises the squared error alone. The paper's loss adds a relative error and a penalty on the
  distance from 1, which moments do not hold.

Injected noise, at full precision's x_t where there is no bias, says nothing of an input correction: look at what
accumulates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from noise_models.correction.fitted import finite_arrays, per_channel, require_use
from noise_models.correction.fitting import calibration_config
from noise_models.inference.labelled import recorded
from noise_models.inference.pooling import Array, Pooled, block_sums
from samplers.errors import BadInput
from samplers.validation import require_bool, require_choice

if TYPE_CHECKING:
    from torch import Tensor

    from samplers.coefficients import Update

FORMS = ("bias", "least_squares", "moments")


@dataclass(frozen=True, eq=False)
class TimestepAware:
    """The network sees scale x + shift, and its epsilon is multiplied by gain. Made by :func:`fit_timestep_aware`.

    Args:
        scale: (step, channel); 1 at step 0, where all runs share x_T.
        shift: likewise; 0 at step 0.
        gain: likewise; 1 where the output is left alone.
        form: ``bias``, ``least_squares`` or ``moments``.
        reconstruct: whether the gain was fitted.
        source: configuration of the run that it was fitted on, as plain JSON values.

    Raises:
        BadInput: an argument breaks its rule.
    """

    scale: Array
    shift: Array
    gain: Array
    form: str
    reconstruct: bool
    source: Mapping[str, Any]

    def __post_init__(self) -> None:
        require_choice("form", self.form, FORMS)
        require_bool("reconstruct", self.reconstruct)
        finite_arrays(self, "scale", "shift", "gain")

    @property
    def name(self) -> str:
        """``tac``, ``tac-least-squares`` or ``tac-moments``; with ``-reconstructed`` where the gain was fitted."""
        form = "" if self.form == "bias" else "-" + self.form.replace("_", "-")
        return f"tac{form}" + "-reconstructed" * self.reconstruct

    def config(self) -> dict[str, Any]:
        """Settings and the configuration of the run fitted on, which determine every fitted value."""
        return {"name": self.name, "form": self.form, "reconstruct": self.reconstruct, "fit": dict(self.source)}

    def check(self, use: dict[str, Any]) -> None:
        """Refuse a run of another model, scheme, sampler or state of the quantized run, and one on the fit's samples.

        Raises:
            BadInput: naming the field that differs.
        """
        require_use(self.source, use)
        fitted, used = (config.get("state_quantized") for config in (self.source, use))
        if fitted != used:  # it rounds x_t, so it belongs to what accumulates
            raise BadInput(
                f"an input correction holds only for the state it was fitted with, {fitted!r}",
                got=repr(used),
                fix="fit it again on an arm with this state",
            )

    def input(self, step: int, x: Tensor) -> Tensor:
        """scale x + shift; ``x`` itself where the two are 1 and 0."""
        if (self.scale[step] == 1).all() and (self.shift[step] == 0).all():
            return x
        scale, shift = (x.new_tensor(per_channel(values[step], x.ndim)) for values in (self.scale, self.shift))
        return scale * x + shift

    def epsilon(self, step: int, epsilon: Tensor, members: np.ndarray) -> Tensor:
        """Gain times epsilon; bit-identical to ``epsilon`` where the gain is 1."""
        return epsilon * epsilon.new_tensor(per_channel(self.gain[step], epsilon.ndim))

    def update(self, step: int, update: Update) -> Update:
        """Unchanged."""
        return update


def fit_timestep_aware(dataset: xr.Dataset, form: str = "bias", *, reconstruct: bool = False) -> TimestepAware:
    """Fit from the accumulated noise of x_t; y = full precision's x_t, h = y + e the quantized run's, per channel.

    - ``bias``, the paper's: scale 1, shift -mean(e).
    - ``least_squares``: the line that predicts y from h, scale = cov(y, h) / var(h): least error of x_t for the same
      noise, which draws x_t to its mean.
    - ``moments``: scale = s_y / s_h: the network sees x_t of full precision's mean and variance.

    The state at step i is that after step i - 1; at step 0 nothing is corrected.

    Args:
        dataset: a run of purpose "calibrate", without a correction, with accumulated noise, 8 samples or more; for
            ``reconstruct`` with injected noise too.
        form: see above.
        reconstruct: also fit gain = mean(epsilon epsilon^) / mean(epsilon^^2), from injected noise.

    Raises:
        BadInput: the dataset is not such a run, or x_t or epsilon does not vary.
    """
    require_choice("form", form, FORMS)
    require_bool("reconstruct", reconstruct)
    config = calibration_config(dataset, "state_accumulated")
    state = _total(dataset, "state_accumulated")
    output = state.central[2, 0] + 2 * state.covariance + state.central[0, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        after = {
            "bias": np.ones_like(output),
            "least_squares": (state.central[2, 0] + state.covariance) / output,
            "moments": np.sqrt(state.central[2, 0] / output),
        }[form]
        # the mean of h moves to that of y; written so that the shift of "bias" is the mean of e alone
        shift_after = (1 - after) * state.mean_y - after * state.mean_e
        gain = np.ones_like(output)
        if reconstruct:
            calibration_config(dataset)
            epsilon = _total(dataset, "epsilon_injected")
            cross = epsilon.covariance + epsilon.mean_y * epsilon.mean_e
            gain = (epsilon.power_y + cross) / (epsilon.power_y + 2 * cross + epsilon.power_e)
    scale, shift = np.ones_like(after), np.zeros_like(after)
    scale[1:], shift[1:] = after[:-1], shift_after[:-1]
    if not (np.isfinite(scale).all() and np.isfinite(shift).all() and np.isfinite(gain).all()):
        raise BadInput(
            "x_t and epsilon must be finite and vary over the elements of every step and channel",
            got="a fit that is not finite",
            fix="check the model, and that the run did not diverge",
        )
    return TimestepAware(scale, shift, gain, form, reconstruct, config)


def _total(dataset: xr.Dataset, variable: str) -> Pooled:
    """Moments per (step, channel) over all samples."""
    moments, count = recorded(dataset, variable)
    return block_sums(moments.transpose("step", "channel", ...), count).total()
