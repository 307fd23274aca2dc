"""DPM-Solver++ (Lu et al. 2022b, arXiv:2211.01095) of order 1, 2M (multistep) and 2S (singlestep), and its SDE form.

With alpha = sqrt(abar), s = sqrt(1 - abar), lambda = log(alpha / s), h = lambda' - lambda and m the predicted x0:

- ODE: x' = (s'/s) x + alpha' (1 - e^{-h}) m + alpha' phi D.
- SDE: x' = (s'/s) e^{-h} x + alpha' (1 - e^{-2h}) m + alpha' phi D + s' sqrt(1 - e^{-2h}) z.

Order 1 has D = 0: the ODE form is DDIM with eta = 0, the SDE form DDIM with eta = 1. Order 2M has D = (m - m_before) /
r, r = h_before / h, and phi = (1 - e^{-h}) / 2 by ``midpoint``, (e^{-h} - 1) / h + 1 by ``heun`` (in the SDE form with
2h for h, and (1 - e^{-2h}) / (-2h) + 1).

Order 2S takes two nodes in one: from x at the first, one step of order 1 to the second, a call there, and
x' = (s'/s) x + alpha' (1 - e^{-h}) m_first + alpha' phi (m_second - m_first) / r over both, r the first's share of h.
As an update from the second node, x is what the step of order 1 came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from samplers import sigma_nodes
from samplers.coefficients import Earlier, Node, Update
from samplers.errors import BadInput
from samplers.euler import sigma_of
from samplers.sigma_method import SigmaMethod
from samplers.sigma_nodes import Floats
from samplers.table_arithmetic import Scalar
from samplers.validation import require_bool, require_choice, require_int, require_real

ALGORITHM_TYPES = ("dpmsolver++", "sde-dpmsolver++")
SOLVER_TYPES = ("midpoint", "heun")
SOLVERS = ("multistep", "singlestep")
_ZERO = np.float64(0)


def step_size(here: Node, there: Node) -> Scalar:
    """h = lambda' - lambda, which is log(sigma / sigma'); infinite for a step to abar = 1."""
    with np.errstate(divide="ignore"):
        return np.log(sigma_of(here)) - np.log(sigma_of(there))


def dpm_solver_updates(
    nodes: Sequence[Node],
    orders: Sequence[int],
    *,
    solver: str = "multistep",
    algorithm_type: str = "dpmsolver++",
    solver_type: str = "midpoint",
) -> tuple[Update, ...]:
    """DPM-Solver++ over ``nodes``, one update for each step.

    Args:
        nodes: abar rising from one to the next and above 0.
        orders: 1 or 2 for every step. A step of order 2 needs one before it; of 2S, one of order 1.
        solver: multistep or singlestep.
        algorithm_type: dpmsolver++ or sde-dpmsolver++, the latter multistep only.
        solver_type: midpoint or heun.
    """
    stochastic = algorithm_type == "sde-dpmsolver++"
    updates: list[Update] = []
    for i, ((here, there), order) in enumerate(zip(pairwise(nodes), orders, strict=True)):
        if order == 1:
            updates.append(_first_order(here, there, stochastic))
        elif solver == "multistep":
            updates.append(_multistep(nodes[i - 1], here, there, solver_type, stochastic))
        else:
            updates.append(_singlestep(nodes[i - 1], here, there, solver_type, updates[-1]))
    return tuple(updates)


def _first_order(here: Node, there: Node, stochastic: bool) -> Update:
    h = step_size(here, there)
    abar, abar_next = np.float64(here.alpha_cumprod), np.float64(there.alpha_cumprod)
    kept = np.sqrt((1 - abar_next) / (1 - abar))
    own = -np.expm1(-2 * h) if stochastic else -np.expm1(-h)
    return Update(
        timestep=here.timestep,
        previous_timestep=there.timestep,
        alpha_cumprod=abar,
        alpha_cumprod_previous=abar_next,
        x0_coefficient=np.sqrt(abar_next) * own,
        x_coefficient=kept * np.exp(-h) if stochastic else kept,
        epsilon_coefficient=_ZERO,
        noise_coefficient=np.sqrt(1 - abar_next) * np.sqrt(own) if stochastic else _ZERO,
    )


def _slope_weight(h: Scalar, solver_type: str, stochastic: bool) -> Scalar:
    """phi."""
    u = 2 * h if stochastic else h
    if solver_type == "midpoint":
        return -np.expm1(-u) / 2
    if u == 0:
        return _ZERO
    return 1 + np.expm1(-u) / u


def _multistep(before: Node, here: Node, there: Node, solver_type: str, stochastic: bool) -> Update:
    first = _first_order(here, there, stochastic)
    h = step_size(here, there)
    slope = np.sqrt(first.alpha_cumprod_previous) * _slope_weight(h, solver_type, stochastic)
    slope *= h / step_size(before, here)
    return _with_x0(first, first.x_coefficient, first.x0_coefficient + slope, -slope)


def _singlestep(start: Node, middle: Node, there: Node, solver_type: str, trial: Update) -> Update:
    whole = _first_order(start, there, stochastic=False)
    h = step_size(start, there)
    slope = np.sqrt(whole.alpha_cumprod_previous) * _slope_weight(h, solver_type, stochastic=False)
    slope *= h / step_size(start, middle)
    kept = whole.x_coefficient / trial.x_coefficient  # x = (x~ - trial.x0_coefficient m_first) / trial.x_coefficient
    from_middle = _first_order(middle, there, stochastic=False)
    return _with_x0(from_middle, kept, slope, whole.x0_coefficient - slope - kept * trial.x0_coefficient)


def _with_x0(update: Update, x: Scalar, x0: Scalar, x0_before: Scalar) -> Update:
    return Update(
        timestep=update.timestep,
        previous_timestep=update.previous_timestep,
        alpha_cumprod=update.alpha_cumprod,
        alpha_cumprod_previous=update.alpha_cumprod_previous,
        x0_coefficient=x0,
        x_coefficient=x,
        epsilon_coefficient=_ZERO,
        noise_coefficient=update.noise_coefficient,
        history=(Earlier(x0_before, _ZERO),),
    )


@dataclass(frozen=True)
class DPMSolver(SigmaMethod):
    """diffusers' DPMSolverMultistepScheduler and, with solver="singlestep", DPMSolverSinglestepScheduler.

    Timesteps are theirs: n + 1 of them, without the last (``linspace`` rounded, ``leading`` by steps of T // (n + 1));
    chosen levels call the network at integers. Levels are chosen over the whole training table, not the run's.

    Args, beside those of :class:`samplers.sigma_method.SigmaMethod`:
        solver_order: 1 or 2.
        algorithm_type: dpmsolver++ or sde-dpmsolver++.
        solver_type: midpoint or heun.
        solver: multistep, or singlestep for the ODE form with timestep_spacing linspace.
        lower_order_final: end runs of fewer than 15 steps with order 1 (of singlestep, runs of any length where the
            orders do not come out even).
        euler_at_final: end every run with order 1. With final_sigmas_type ``zero`` it always does, as in diffusers: log
            sigma ends nowhere else.
        lambda_min_clipped: leave out training timesteps of a smaller lambda; None for none (diffusers' -inf).

    Raises:
        BadInput: an argument breaks its rule.
    """

    _: KW_ONLY
    solver_order: int = 2
    algorithm_type: str = "dpmsolver++"
    solver_type: str = "midpoint"
    solver: str = "multistep"
    lower_order_final: bool = True
    euler_at_final: bool = False
    lambda_min_clipped: float | None = None

    starts_at_sigma: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_choice("algorithm_type", self.algorithm_type, ALGORITHM_TYPES)
        require_choice("solver_type", self.solver_type, SOLVER_TYPES)
        require_choice("solver", self.solver, SOLVERS)
        object.__setattr__(self, "solver_order", require_int("solver_order", self.solver_order, 1))
        if self.solver_order > 2:
            raise BadInput("solver_order must be 1 or 2", got=self.solver_order, fix="use 2")
        for name in ("lower_order_final", "euler_at_final"):
            require_bool(name, getattr(self, name))
        if self.lambda_min_clipped is not None:
            clipped = require_real("lambda_min_clipped", self.lambda_min_clipped)
            object.__setattr__(self, "lambda_min_clipped", clipped)
        singlestep = self.solver == "singlestep"
        if singlestep and (self.algorithm_type != "dpmsolver++" or self.timestep_spacing != "linspace"):
            raise BadInput(
                "the singlestep solver is the ODE form's, on linspace timesteps",
                got=f"{self.algorithm_type} with {self.timestep_spacing}",
                fix='use solver="multistep", or dpmsolver++ with linspace',
            )
        if singlestep and self.euler_at_final:
            raise BadInput("euler_at_final belongs to multistep", got="singlestep", fix="use lower_order_final")
        super().__post_init__()

    @property
    def name(self) -> str:
        """The method: "dpm-solver++" or "sde-dpm-solver++"."""
        return "dpm-solver++" if self.algorithm_type == "dpmsolver++" else "sde-dpm-solver++"

    @property
    def orders(self) -> tuple[int, ...]:
        """Order of every step."""
        count, zero = self.num_inference_steps, self.final_sigmas_type == "zero"
        if self.solver_order == 1:
            return (1,) * count
        if self.solver == "multistep":
            low_end = self.euler_at_final or zero or (self.lower_order_final and count < 15)
            return tuple(1 if i == 0 or (low_end and i == count - 1) else 2 for i in range(count))
        lower = self.lower_order_final or zero or count % 2
        return ((1, 2) * ((count - 1) // 2) + ((1,) if count % 2 else (1, 1))) if lower else (1, 2) * (count // 2)

    @property
    def spaced(self) -> Floats:
        """The n timesteps, descending, integers.

        With L the number of training timesteps that lambda_min_clipped leaves: leading: i (L // (n + 1)) +
        steps_offset, trailing: round(L - i T/n) - 1, linspace: round(i (L - 1) / n), i = n..1.

        Raises:
            BadInput: a timestep falls outside 0..T-1.
        """
        total, count = self.schedule.num_train_timesteps, self.num_inference_steps
        used = total - self._left_out()
        if self.timestep_spacing == "linspace":
            chosen: Floats = np.linspace(0, used - 1, count + 1).round()[:0:-1]
        elif self.timestep_spacing == "leading":
            chosen = (np.arange(count + 1.0) * (used // (count + 1)))[:0:-1] + self.steps_offset
        else:
            chosen = np.arange(used, 0, -total / count).round() - 1
        if len(chosen) != count or chosen[-1] < 0 or chosen[0] >= total:
            raise BadInput(
                f"{count} timesteps must lie in 0..{total - 1}",
                got=f"{len(chosen)} from {chosen[0]:g} to {chosen[-1]:g} by {self.timestep_spacing} spacing",
                fix="use another number of steps, a smaller steps_offset or linspace",
            )
        return chosen.astype(np.float64)

    def _left_out(self) -> int:
        if self.lambda_min_clipped is None:
            return 0
        table = sigma_nodes.sigma_table(self.schedule)
        return int((-np.log(table) < self.lambda_min_clipped).sum())

    def _extent(self, table: np.ndarray, sigmas: Floats) -> tuple[float, float]:
        return float(table[0]), float(table[-1])

    def _called_at(self, timesteps: Floats, levels: str) -> Floats:
        # diffusers rounds Karras levels' timesteps and cuts the others' down, and these of the cosine schedule
        rounds = levels == "use_karras_sigmas" and self.schedule.beta_schedule != "squaredcos_cap_v2"
        return timesteps.round() if rounds else np.trunc(timesteps)

    def _updates(self, nodes: tuple[Node, ...]) -> tuple[Update, ...]:
        return dpm_solver_updates(
            nodes, self.orders, solver=self.solver, algorithm_type=self.algorithm_type, solver_type=self.solver_type
        )
