"""PLMS (Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models on Manifolds"), without Runge-Kutta steps.

Each step is DDIM's transfer (eq. 9) of a combined epsilon e',
x' = sqrt(abar' / abar) x - (abar' - abar) / (abar sqrt(1 - abar') + sqrt(abar (1 - abar) abar')) e',
with e' of linear multistep methods (eq. 12; e_j was predicted j steps before):

- first step: a trial step with e' = e_0, a call at its end, then the step with e' = (e_0 + e_trial) / 2.
- second: (3 e_0 - e_1) / 2. third: (23 e_0 - 16 e_1 + 5 e_2) / 12. later: (55 e_0 - 59 e_1 + 37 e_2 - 9 e_3) / 24.

The trial's epsilon is not used again. The step that it corrects is an update from the trial's end: x~ plus half the
transfer of e_trial - e_0.

Order: the weights are those of equal steps in sigma = sqrt((1 - abar) / abar), where epsilon is dy/dsigma. On such
nodes the first two steps err by h^3 each, a step of four by h^5: the run has order 3. On other nodes every step takes
the mean of epsilon over the index for its mean over sigma, which errs by h^3: order 2, which is what the paper states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from samplers.coefficients import Earlier, Node, Update
from samplers.errors import BadInput
from samplers.method import Method, nodes_of
from samplers.table_arithmetic import Scalar, square_root
from samplers.validation import require_bool

_COMBINATIONS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""Weights of e_0, e_1, ... by the number of predictions at hand."""


def transfer(here: Node, there: Node) -> tuple[Scalar, Scalar]:
    """Weights of x and e' in DDIM's step (eq. 9), in the nodes' dtype."""
    abar, abar_next = here.alpha_cumprod, there.alpha_cumprod
    below = abar * square_root(1 - abar_next) + square_root(abar * (1 - abar) * abar_next)
    return square_root(abar_next / abar), -(abar_next - abar) / below


def plms_updates(nodes: Sequence[Node]) -> tuple[Update, ...]:
    """PLMS over ``nodes``: one update more than steps, the second of which corrects the first."""
    updates: list[Update] = []
    for step, (here, there) in enumerate(pairwise(nodes)):
        kept, moved = transfer(here, there)
        if step == 0:
            updates.append(_update(here, there, kept, moved, (1.0,)))
            if len(nodes) > 2:
                updates.append(_update(there, there, kept.dtype.type(1), moved, (1 / 2, -1 / 2)))
            continue
        weights = list(_COMBINATIONS[min(step, 3)])
        if 1 <= step <= 3:
            weights.insert(step, 0.0)  # the call before the first step's own was made at its trial's end
        updates.append(_update(here, there, kept, moved, weights))
    return tuple(updates)


def _update(here: Node, there: Node, kept: Scalar, moved: Scalar, weights: Sequence[float]) -> Update:
    dtype = kept.dtype.type
    zero = dtype(0)
    own, *earlier = (dtype(weight) * moved if weight else zero for weight in weights)
    return Update(
        timestep=here.timestep,
        previous_timestep=there.timestep,
        alpha_cumprod=here.alpha_cumprod,
        alpha_cumprod_previous=there.alpha_cumprod,
        x0_coefficient=zero,
        x_coefficient=kept,
        epsilon_coefficient=own,
        noise_coefficient=zero,
        history=tuple(Earlier(zero, weight) for weight in earlier),
    )


@dataclass(frozen=True)
class PLMS(Method):
    """diffusers' PNDMScheduler with skip_prk_steps=True: n steps in n + 1 calls of the network (1 for n = 1).

    Differences from diffusers: its previous timestep is t - T // n, here the next one visited (see
    :class:`samplers.ddim.DDIM`); under v-prediction it combines v of different timesteps, here epsilon, which the
    formulas are about.

    Args, beside those of :class:`samplers.method.Method`:
        set_alpha_to_one: what the last step leads to, abar = 1 or alphas_cumprod[0]; off by default, as in diffusers.

    Raises:
        BadInput: an argument breaks its rule; clip_sample or thresholding, since x0 is nowhere used.
    """

    _: KW_ONLY
    set_alpha_to_one: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_bool("set_alpha_to_one", self.set_alpha_to_one)
        self._no_clipping("one of them, and updates that never use x0")
        if self.schedule.alphas_cumprod[int(self.timesteps[0])] == 0:
            raise BadInput(
                "PLMS needs some signal at every timestep, since its steps divide by abar",
                got="alphas_cumprod 0 at the first timestep visited (rescale_betas_zero_snr)",
                fix="use ddim, or timestep_spacing leading",
            )
        _ = self.updates

    @property
    def name(self) -> str:
        """The method: "plms"."""
        return "plms"

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """One :class:`Update` per call of the network, in loop order."""
        abar = self.schedule.alphas_cumprod
        final = abar.dtype.type(1) if self.set_alpha_to_one else abar[0]
        return plms_updates(nodes_of(self.schedule, np.asarray(self.timesteps), final))
