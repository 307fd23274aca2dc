"""What samplers of sigma = sqrt((1 - abar) / abar) share: diffusers' knobs for where they step, and their start."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from samplers import sigma_nodes
from samplers.coefficients import Node, Update
from samplers.errors import BadInput
from samplers.method import Method
from samplers.sigma_nodes import Floats
from samplers.timesteps import TIMESTEP_SPACINGS
from samplers.validation import require_bool, require_choice

FINAL_SIGMAS = ("zero", "sigma_min")
_LEVELS = {
    "use_karras_sigmas": sigma_nodes.karras,
    "use_exponential_sigmas": sigma_nodes.exponential,
    "use_beta_sigmas": sigma_nodes.beta,
}


@dataclass(frozen=True)
class SigmaMethod(Method):
    """A method on noise levels. Its state is kept in variance-preserving coordinates, as every other's here.

    diffusers' Euler and Heun keep x / sqrt(abar) instead and scale it back for the network: y = sqrt(1 + sigma^2) x.
    The numbers that the network sees are the same up to rounding.

    Args, beside those of :class:`samplers.method.Method`:
        timestep_spacing: as there; the default is diffusers' for this family. Timesteps of ``linspace`` are fractions.
        use_karras_sigmas: levels of :func:`samplers.sigma_nodes.karras` between the run's largest and smallest.
        use_exponential_sigmas: of :func:`samplers.sigma_nodes.exponential`; at most one of the three.
        use_beta_sigmas: of :func:`samplers.sigma_nodes.beta`.
        final_sigmas_type: what the last step leads to: ``zero``, or ``sigma_min``, the first of the training table.

    Raises:
        BadInput: an argument breaks its rule, or two levels are equal.
    """

    _: KW_ONLY
    timestep_spacing: str = "linspace"
    use_karras_sigmas: bool = False
    use_exponential_sigmas: bool = False
    use_beta_sigmas: bool = False
    final_sigmas_type: str = "zero"

    starts_at_sigma: ClassVar[bool] = True
    """Whether x_T is sigma_max z in diffusers' coordinates, as its Euler and Heun have it, rather than pure noise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("timestep_spacing", self.timestep_spacing, TIMESTEP_SPACINGS)
        require_choice("final_sigmas_type", self.final_sigmas_type, FINAL_SIGMAS)
        if sum(require_bool(name, getattr(self, name)) for name in _LEVELS) > 1:
            raise BadInput(f"at most one of {', '.join(_LEVELS)} may be on", got="several", fix="choose one")
        if self.num_inference_steps > self.schedule.num_train_timesteps:
            raise BadInput(
                "num_inference_steps must not exceed num_train_timesteps",
                got=f"{self.num_inference_steps} steps of {self.schedule.num_train_timesteps}",
                fix=f"use at most {self.schedule.num_train_timesteps} steps",
            )
        _ = self.updates

    @property
    def spaced(self) -> Floats:
        """Timesteps before any choice of levels, descending, rounded to float32 as the network sees them.

        leading: i (T // n) + steps_offset. trailing: round(T - i T/n) - 1. linspace: i (T - 1)/(n - 1), not rounded.

        Raises:
            BadInput: a timestep falls outside 0..T-1.
        """
        if self.timestep_spacing != "linspace":
            return super().timesteps.astype(np.float64)
        total, count = self.schedule.num_train_timesteps, self.num_inference_steps
        return np.linspace(0, total - 1, count, dtype=np.float32)[::-1].astype(np.float64)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Where the run steps, and the end: one node more than steps."""
        table = sigma_nodes.sigma_table(self.schedule)
        timesteps = self.spaced
        sigmas, final = self._levels_at(table, timesteps)
        for name, levels in _LEVELS.items():
            if getattr(self, name):
                extent = self._extent(table, sigmas)
                sigmas = np.clip(levels(*extent, self.num_inference_steps), *extent)  # its ends, but for rounding
                timesteps = self._called_at(sigma_nodes.timesteps_at(sigmas, table), name)
        return sigma_nodes.nodes_at(sigmas, timesteps, final, self.schedule)

    def _levels_at(self, table: NDArray[np.floating], timesteps: Floats) -> tuple[Floats, float]:
        """Levels of the spaced timesteps, and the last one."""
        final = 0.0 if self.final_sigmas_type == "zero" else float(table[0])
        return sigma_nodes.interpolated(table, timesteps), final

    def _extent(self, table: NDArray[np.floating], sigmas: Floats) -> tuple[float, float]:
        """Smallest and largest of chosen levels: those of the spaced timesteps."""
        return float(sigmas[-1]), float(sigmas[0])

    def _called_at(self, timesteps: Floats, levels: str) -> Floats:
        """The network's timesteps for chosen levels."""
        return timesteps.astype(np.float32).astype(np.float64)

    @property
    def timesteps(self) -> NDArray[np.int64] | NDArray[np.float64]:
        """(n,) descending: where steps begin."""
        return np.array([node.timestep for node in self.nodes[:-1]])

    @property
    def init_noise_sigma(self) -> float:
        """Scale of x_T here. diffusers' Euler and Heun start from y = init_noise_sigma z with y = x sqrt(1 + sigma^2).

        There it is sqrt(sigma_max^2 + 1) for leading and sigma_max else: 1 and sqrt(1 - abar) of x.
        """
        if not self.starts_at_sigma or self.timestep_spacing == "leading":
            return 1.0
        return float(1 - self.nodes[0].alpha_cumprod) ** 0.5

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """One :class:`Update` per call of the network, in loop order."""
        return self._updates(self.nodes)

    @abstractmethod
    def _updates(self, nodes: tuple[Node, ...]) -> tuple[Update, ...]:
        """The method's own formula over the run's nodes."""
