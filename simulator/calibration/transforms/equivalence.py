"""Whether a derived network still computes its model's function, for graphs and places that a user names."""

from __future__ import annotations

import torch

from samplers.validation import require_int
from simulator.instrument.forward import plain_call
from simulator.models.conditioning import Conditioning, call_for
from simulator.models.registry import Model


@torch.no_grad()
def largest_change(
    model: Model, derived: Model, *, samples: int = 4, seed: int = 0, conditioning: Conditioning | None = None
) -> float:
    """The largest difference of two networks' float outputs over the largest output: about 1e-7 where nothing changed.

    Both see the same standard normal inputs at timesteps from the first to the last.

    Args:
        model: the network.
        derived: what was made of it.
        samples: number of inputs, spread over the timesteps.
        seed: of the inputs.
        conditioning: what the inputs are conditioned on, for networks that cannot be called without.

    Returns:
        A number from 0; NaN or infinity where an output is.
    """
    x = torch.randn(
        require_int("samples", samples, 1), *model.sample_shape, generator=torch.Generator().manual_seed(seed)
    )
    last = 999 if model.schedule is None else model.schedule.num_train_timesteps - 1
    timestep = torch.linspace(0, last, samples).long()
    outputs = [
        (call_for(m, conditioning, range(samples)) or plain_call)(m.module, x, timestep) for m in (model, derived)
    ]
    change, largest = (outputs[1] - outputs[0]).abs().max(), outputs[0].abs().max()
    return float(change / largest) if change != 0 else 0.0
