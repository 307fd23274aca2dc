"""The noise schedule: betas_t and alphas_cumprod_t = prod_{s<=t} (1 - beta_s) for t = 0..T-1."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from samplers.errors import BadInput
from samplers.table_arithmetic import DTYPES, Table, cumulative_product, linspace, zero_terminal_snr
from samplers.validation import require_bool, require_choice, require_int, require_real

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")


@dataclass(frozen=True)
class NoiseSchedule:
    """Variance schedule of the forward process q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I).

    With T = num_train_timesteps and t = 0..T-1:

    - ``linear``: beta_t evenly spaced from beta_start to beta_end (Ho et al. 2020, section 4).
    - ``scaled_linear``: sqrt(beta_t) evenly spaced (latent diffusion, Rombach et al. 2022).
    - ``squaredcos_cap_v2``: beta_t = min(1 - f((t+1)/T) / f(t/T), 0.999), f(u) = cos^2(pi/2 (u + 0.008) / 1.008)
      (Nichol and Dhariwal 2021, eq. 17); beta_start and beta_end are not used.

    Names and meaning of the arguments are diffusers'. Equal arguments give equal, equally hashed schedules.

    Args:
        beta_schedule: one of the three above.
        num_train_timesteps: T, at least 1.
        beta_start: in (0, beta_end].
        beta_end: in [beta_start, 1).
        tables: ``"float64"`` computes throughout in float64; ``"float32"`` gives the float32 tables that diffusers
            computes on this machine, bit for bit (and imports torch to do so). For T = 1000 the two differ by at most
            2e-6 relative in alphas_cumprod (2e-5 for squaredcos_cap_v2), but by up to 6e-4 in 1 - alphas_cumprod,
            which float32 forms by cancellation at the first timesteps.
        trained_betas: (T,) betas given one by one, each in (0, 1); the other arguments but T are then not used. Kept as
            a tuple.
        rescale_betas_zero_snr: move the betas so that the last abar is 0 (Lin et al. 2024, algorithm 1): x_{T-1} is
            then pure noise, from which epsilon says nothing about x0, and a sampler that visits it refuses
            epsilon-prediction (diffusers' DDIM divides by 0 there). Samplers of sigma = sqrt((1 - abar) / abar) take
            abar = 2^-24 in its place, as diffusers' do.

    Raises:
        BadInput: an argument breaks its rule, or alphas_cumprod leaves the open interval (0, 1) in the chosen dtype,
            where the updates would divide by zero (but for the last with rescale_betas_zero_snr).
    """

    beta_schedule: str = "linear"
    num_train_timesteps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    tables: str = "float64"
    trained_betas: Sequence[float] | None = None
    rescale_betas_zero_snr: bool = False

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        require_choice("beta_schedule", self.beta_schedule, BETA_SCHEDULES)
        require_choice("tables", self.tables, tuple(DTYPES))
        set_field(self, "num_train_timesteps", require_int("num_train_timesteps", self.num_train_timesteps, 1))
        set_field(self, "beta_start", require_real("beta_start", self.beta_start))
        set_field(self, "beta_end", require_real("beta_end", self.beta_end))
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise BadInput(
                "betas must satisfy 0 < beta_start <= beta_end < 1",
                got=f"beta_start={self.beta_start}, beta_end={self.beta_end}",
                fix="reorder or shrink them",
            )
        if self.trained_betas is not None:
            set_field(self, "trained_betas", self._checked(self.trained_betas))
        rescaled = require_bool("rescale_betas_zero_snr", self.rescale_betas_zero_snr)
        if rescaled and self.num_train_timesteps < 2:
            raise BadInput("rescaling needs at least 2 timesteps", got=self.num_train_timesteps, fix="use more")
        first, last = self.alphas_cumprod[0], self.alphas_cumprod[-2 if rescaled else -1]
        if not (last > 0 and first < 1):
            raise BadInput(
                f"alphas_cumprod must stay strictly between 0 and 1 in {self.tables}",
                got=f"{first} at the first timestep and {last} at the last",
                fix="use tables='float64', a larger beta_start, a smaller beta_end or fewer timesteps",
            )

    def _checked(self, betas: Sequence[float]) -> tuple[float, ...]:
        values = tuple(require_real("trained_betas", beta) for beta in betas)
        if len(values) != self.num_train_timesteps or not all(0 < beta < 1 for beta in values):
            raise BadInput(
                "trained_betas must hold one number in (0, 1) for each training timestep",
                got=f"{len(values)} numbers for {self.num_train_timesteps} timesteps",
                fix="give all of them, and num_train_timesteps",
            )
        return values

    @property
    def betas(self) -> Table:
        """beta_t, (T,) in the tables' dtype, read-only."""
        return _tables(self)[0]

    @property
    def alphas_cumprod(self) -> Table:
        """abar_t = prod_{s<=t} (1 - beta_s), (T,) in the tables' dtype, strictly decreasing but for ties, read-only."""
        return _tables(self)[1]

    def config(self) -> dict[str, object]:
        """The arguments as a plain dict; trained_betas (a list) and rescale_betas_zero_snr only where they are used."""
        values = dataclasses.asdict(self)
        betas = values.pop("trained_betas")
        if not values["rescale_betas_zero_snr"]:
            del values["rescale_betas_zero_snr"]
        return values if betas is None else {**values, "trained_betas": list(betas)}


def require_schedule(schedule: NoiseSchedule | None) -> NoiseSchedule:
    """Return ``schedule`` if it is one.

    Raises:
        BadInput: None, or anything else: the network was trained without alphas_cumprod (flow matching), or its
            checkpoint came without a scheduler.
    """
    if not isinstance(schedule, NoiseSchedule):
        raise BadInput(
            "sampling needs a noise schedule, which a flow-matching model, or one without its scheduler, does not have",
            got=repr(schedule),
            fix="run single forward passes, or give the model its schedule with dataclasses.replace",
        )
    return schedule


@lru_cache(maxsize=256)
def _tables(schedule: NoiseSchedule) -> tuple[Table, Table]:
    # Kept outside the instance, so that copies and unpickled schedules share these read-only arrays.
    dtype = DTYPES[schedule.tables]
    count, start, end = schedule.num_train_timesteps, schedule.beta_start, schedule.beta_end
    if schedule.trained_betas is not None:
        betas = np.array(schedule.trained_betas, np.float64).astype(dtype)
    elif schedule.beta_schedule == "linear":
        betas = linspace(start, end, count, dtype)
    elif schedule.beta_schedule == "scaled_linear":
        betas = linspace(start**0.5, end**0.5, count, dtype) ** 2
    else:
        betas = np.array([_cosine_beta(t, count) for t in range(count)]).astype(dtype)
    if schedule.rescale_betas_zero_snr:
        betas = zero_terminal_snr(betas)
    alphas_cumprod = cumulative_product(1 - betas)
    betas.setflags(write=False)
    alphas_cumprod.setflags(write=False)
    return betas, alphas_cumprod


def _cosine_beta(t: int, count: int) -> float:
    def f(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    return min(1 - f((t + 1) / count) / f(t / count), 0.999)
