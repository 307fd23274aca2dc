"""What a network's output means: the one place that converts between epsilon, x0 and v."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplers.validation import require_choice

if TYPE_CHECKING:
    from torch import Tensor

    from samplers.coefficients import Update
    from samplers.state import State

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")


def predict(
    state: State, prediction_type: str, update: Update, x: Tensor, model_output: Tensor
) -> tuple[Tensor, Tensor]:
    """The predicted x0 and epsilon of one step, from what the network returned.

    With abar = update.alpha_cumprod and x = sqrt(abar) x0 + sqrt(1 - abar) epsilon:

    - ``epsilon``: x0 = (x - sqrt(1-abar) output) / sqrt(abar), epsilon = output.
    - ``sample``: x0 = output, epsilon = (x - sqrt(abar) output) / sqrt(1-abar).
    - ``v_prediction`` (v = sqrt(abar) epsilon - sqrt(1-abar) x0; Salimans and Ho 2022, appendix D):
      x0 = sqrt(abar) x - sqrt(1-abar) output, epsilon = sqrt(abar) output + sqrt(1-abar) x.

    The order of operations is diffusers' (DDIMScheduler.step), so that float32 gives the same bits.

    Args:
        state: the arithmetic; each converted quantity is one ``state.combine``.
        prediction_type: epsilon, sample or v_prediction.
        update: the step, for abar alone.
        x: x_t, any shape, in the state's dtype.
        model_output: like ``x``.

    Returns:
        x0 and epsilon, shaped like ``x``; the one that the network predicts is ``model_output`` itself, not a copy.

    Raises:
        BadInput: unknown prediction_type, or a tensor in another dtype than the state's.
    """
    require_choice("prediction_type", prediction_type, PREDICTION_TYPES)
    signal, noise = update.sqrt_alpha_cumprod, update.sqrt_one_minus_alpha_cumprod
    if prediction_type == "epsilon":
        return state.combine((1.0, -noise), (x, model_output), divisor=signal), model_output
    if prediction_type == "sample":
        return model_output, state.combine((1.0, -signal), (x, model_output), divisor=noise)
    x0 = state.combine((signal, -noise), (x, model_output))
    epsilon = state.combine((signal, noise), (model_output, x))
    return x0, epsilon
