"""The sampling loop: x_T from the noise source, then one denoiser call and one update per step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from samplers.coefficients import Prediction, advance, history_length
from samplers.errors import BadInput
from samplers.method import split_variance
from samplers.sampler import NoiseSource, Sampler
from samplers.state import FLOAT64, State

Denoiser = Callable[[Tensor, Tensor], Tensor]
Callback = Callable[[int, float, Tensor, Tensor, Tensor], None]


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    sampler: Sampler,
    noise: NoiseSource,
    samples: ArrayLike | range,
    shape: Sequence[int],
    *,
    state: State = FLOAT64,
    denoiser_dtype: torch.dtype = torch.float32,
    callback: Callback | None = None,
) -> Tensor:
    """Draw ``samples`` with ``sampler``. No gradients are kept.

    Args:
        denoiser: called as denoiser(x, timestep) with x of shape (n, *shape) in ``denoiser_dtype`` and timestep of
            shape (n,), int64 (float32 at a fractional timestep), all entries alike; returns a floating tensor shaped
            like x, or with a variance in as many channels again (axis 1), which only a learned variance uses.
        sampler: the method.
        noise: the noise source; steps whose noise coefficient is 0 draw none.
        samples: (n,) indices of the samples, handed to ``noise``.
        shape: of one sample.
        state: how x_t is held and combined.
        denoiser_dtype: what x is rounded to for the network; x_t itself stays in the state.
        callback: called after each step with (step, timestep, x_t, model_output, x_{t-1}), the tensors in the state's
            dtype and not to be written to.

    Returns:
        x after the last step, (n, *shape), in the state's dtype.

    Raises:
        BadInput: the denoiser returned another shape than it was given.
    """
    x = state.cast(sampler.init_noise_sigma * noise.initial(samples, shape))
    earlier: tuple[Prediction, ...] = ()
    kept = history_length(sampler.updates)
    for step, update in enumerate(sampler.updates):
        output = denoiser(x.to(denoiser_dtype), update.timesteps(len(x)))
        if split_variance(x, output)[0].shape != x.shape:
            raise BadInput(
                "the denoiser must return its input's shape, or twice its channels for a learned variance",
                got=f"{tuple(output.shape)} for input {tuple(x.shape)}",
                fix="unwrap the output",
            )
        output = state.cast(output)
        z = state.cast(noise.step(step, samples, shape)) if update.noise_coefficient > 0 else None
        prediction = sampler.predict(state, update, x, output)
        x_next = advance(state, update, x, prediction, z, earlier)
        earlier = (prediction, *earlier)[:kept]
        if callback is not None:
            callback(step, update.timestep, x, output, x_next)
        x = x_next
    return x
