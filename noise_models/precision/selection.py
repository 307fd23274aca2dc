"""One choice for each slot, least noise under a budget of integer costs: exactly, and by the lower convex hull.

The problem is the multiple-choice knapsack: minimise the sum over slots i of noise[i, c_i], subject to the sum of
cost[i, c_i] being at most ``budget``. A slot is a step, or a step and a group of sites; a choice is a bit width.

Hulls. For each slot take the lower left convex hull of its points (cost, noise), from the cheapest point of least noise
to the point of least noise. Its edges, each cheaper in noise and dearer in cost, fall off in steepness
(noise saved per cost), so that the edges of all slots in order of steepness are, from all slots at their cheapest, the
optimum of the relaxation in which a slot may mix two choices: any mixture lies on or above its hull, and no other
purchase of the same cost saves more than the steepest edges. The noise of that relaxation at the budget is a lower
bound of the exact optimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samplers.errors import BadInput
from samplers.validation import require_int

Costs = NDArray[np.int64]
Noises = NDArray[np.float64]

MOST_STATES = 4_000_000
"""Partial selections that the exact method keeps, over all slots: 100 MB."""

LARGEST_TOTAL = 2**62
"""Total costs stay below, so that their sums are exact in int64."""

ROUNDING = 1e-12
"""Relative distance below which a bound and a sum of noises count as equal: a state that near is kept."""


@dataclass(frozen=True)
class Selection:
    """A choice for each slot.

    Args:
        choice: (slot,) int64, an index of a choice.
        cost: its total cost.
        noise: its total noise.
        lower_bound: the relaxation's noise at the budget: no selection has less.
    """

    choice: NDArray[np.int64]
    cost: int
    noise: float
    lower_bound: float

    @property
    def gap(self) -> float:
        """noise - lower_bound, at least 0: the selection is at most this much above the optimum."""
        return max(self.noise - self.lower_bound, 0.0)


def exact_selection(noise: ArrayLike, cost: ArrayLike, budget: int) -> Selection:
    """The selection of least noise; of those of least noise (up to rounding) one of the least cost.

    Dynamic programming over the slots on integer costs. After each slot the state is the set of partial selections that
    no other one beats, cost ascending and noise strictly descending; one that costs no more and has no more noise can
    be completed in the same ways, so that the others are no loss. A partial selection is also dropped where its noise
    plus the relaxation's over the remaining slots exceeds that of the selection found by :func:`greedy_selection`, by
    more than ``ROUNDING``: no completion of it can be the optimum.

    Args:
        noise: (slot, choice), finite and at least 0.
        cost: (slot, choice), integers at least 0, whose largest total is below 2^62.
        budget: an integer.

    Raises:
        BadInput: an argument breaks its rule, the budget is below the cheapest selection, or more than
            ``MOST_STATES`` partial selections remain, which only many slots of incommensurable costs bring about.
    """
    noises, costs, budget = _checked(noise, cost, budget)
    incumbent = _greedy(noises, costs, budget)
    limit = incumbent.noise * (1 + ROUNDING)
    cheapest = np.concatenate([np.cumsum(costs.min(1)[::-1])[::-1], [0]])  # of the slots from i on
    rest = _Relaxations(noises, costs)
    state_cost, state_noise = np.zeros(1, np.int64), np.zeros(1)
    history: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []  # parent and choice of each state
    kept = 0
    for slot, (own_noise, own_cost) in enumerate(zip(noises, costs, strict=True)):
        total_cost = (state_cost[:, None] + own_cost).reshape(-1)
        total_noise = (state_noise[:, None] + own_noise).reshape(-1)
        bound = total_noise + rest.least_noise(slot + 1, budget - total_cost)
        index = np.flatnonzero((total_cost + cheapest[slot + 1] <= budget) & (bound <= limit))
        index = index[np.lexsort((total_noise[index], total_cost[index]))]
        least = np.minimum.accumulate(total_noise[index])
        beats = np.concatenate([[True], total_noise[index][1:] < least[:-1]])
        index = index[beats]
        kept += len(index)
        if kept > MOST_STATES:
            raise BadInput(
                f"the exact method keeps at most {MOST_STATES} partial selections",
                got=f"more at slot {slot} of {len(noises)}",
                fix='use method="greedy", whose gap is reported, or fewer groups',
            )
        history.append((index // len(own_cost), index % len(own_cost)))
        state_cost, state_noise = total_cost[index], total_noise[index]
    at = int(np.argmin(state_noise))
    choice = np.empty(len(noises), np.int64)
    for slot in range(len(noises) - 1, -1, -1):
        parents, chosen = history[slot]
        choice[slot], at = chosen[at], parents[at]
    return _selection(choice, noises, costs, incumbent.lower_bound)


def greedy_selection(noise: ArrayLike, cost: ArrayLike, budget: int) -> Selection:
    """From every slot's cheapest choice, buy the edges of all hulls in order of steepness, while they fit.

    An edge that does not fit ends its own slot's purchases; later ones of other slots may still fit.

    Gap: its noise exceeds the optimum's by at most ``gap``, which is at most the noise that the first edge that did not
    fit would have saved. For let G be the noise when that edge, of saving D and cost C, came up, with r < C of the
    budget left. The relaxation buys the same edges up to there and then r / C of this one, hence has noise G - D r / C
    > G - D, and the optimum has no less. What is bought afterwards only lowers the noise. Where every edge fits, the
    gap is 0. Edges of equal steepness come in the order of their slots.

    Args, errors: as :func:`exact_selection`.
    """
    return _greedy(*_checked(noise, cost, budget))


def _greedy(noises: Noises, costs: Costs, budget: int) -> Selection:
    edges, choice = _edges(noises, costs)
    total = costs[np.arange(len(choice)), choice].sum()
    bound = None
    closed = np.zeros(len(choice), bool)
    for slot, target, price, saving in edges:
        if closed[slot]:
            continue
        if total + price > budget:
            if bound is None:  # the whole edge less the part that the budget lacks: a sum without cancellation
                whole = choice.copy()
                whole[slot] = target
                bound = _total(noises, whole) + saving * (int(price - (budget - total)) / price)
            closed[slot] = True
            continue
        choice[slot] = target
        total += price
    reached = _total(noises, choice)
    return _selection(choice, noises, costs, reached if bound is None else min(bound, reached))


class _Relaxations:
    """The relaxation's least noise over the slots from one on, as a function of the budget that is left."""

    def __init__(self, noises: Noises, costs: Costs) -> None:
        self._edges, _ = _edges(noises, costs)
        self._cost, self._noise = costs.min(1), noises.min(1)  # where the hulls start, and where they end

    def least_noise(self, first: int, left: Costs) -> Noises:
        mine = [edge for edge in self._edges if edge[0] >= first]
        cost = np.cumsum([self._cost[first:].sum(), *(edge[2] for edge in mine)])
        # summed from the end, where little is left: from the start, the first savings' rounding would drown it
        savings = np.array([0.0, *(edge[3] for edge in reversed(mine))])
        noise = self._noise[first:].sum() + np.cumsum(savings)[::-1]
        return np.interp(left, cost, noise)  # below the cheapest: its noise, where no completion exists anyway


_Edge = tuple[int, int, int, float]
"""Slot, choice that it leads to, price, noise saved."""


def _edges(noises: Noises, costs: Costs) -> tuple[list[_Edge], NDArray[np.int64]]:
    """Edges of all hulls, steepest first, those of one slot in their order; and where each hull starts."""
    edges, start = [], np.empty(len(noises), np.int64)
    for slot, (noise, cost) in enumerate(zip(noises, costs, strict=True)):
        hull = _hull(noise, cost)
        start[slot] = hull[0]
        steepness = np.inf
        for rank, (a, b) in enumerate(pairwise(hull)):
            price, saving = int(cost[b] - cost[a]), float(noise[a] - noise[b])
            steepness = min(steepness, saving / price)  # rounding must not put an edge before the one it follows
            edges.append((-steepness, slot, rank, (slot, b, price, saving)))
    edges.sort(key=lambda edge: edge[:3])
    return [edge[3] for edge in edges], start


def _hull(noise: Noises, cost: Costs) -> list[int]:
    """Choices on the lower left hull, cost ascending and noise strictly descending."""
    hull: list[int] = []
    for at in map(int, np.lexsort((noise, cost))):
        if hull and noise[at] >= noise[hull[-1]]:
            continue
        while len(hull) > 1 and _slope(noise, cost, hull[-2], at) <= _slope(noise, cost, hull[-2], hull[-1]):
            hull.pop()
        hull.append(at)
    return hull


def _slope(noise: Noises, cost: Costs, a: int, b: int) -> float:
    return float(noise[b] - noise[a]) / int(cost[b] - cost[a])


def _total(noises: Noises, choice: NDArray[np.int64]) -> float:
    return float(noises[np.arange(len(choice)), choice].sum())


def _selection(choice: NDArray[np.int64], noises: Noises, costs: Costs, lower_bound: float) -> Selection:
    at = np.arange(len(choice))
    return Selection(choice, int(costs[at, choice].sum()), _total(noises, choice), float(lower_bound))


def _checked(noise: ArrayLike, cost: ArrayLike, budget: int) -> tuple[Noises, Costs, int]:
    noises, costs = np.asarray(noise, np.float64), np.asarray(cost)
    budget = require_int("budget", budget, 0)
    if noises.ndim != 2 or not noises.size or costs.shape != noises.shape:
        raise BadInput(
            "noise and cost must be (slot, choice), of one shape", got=f"{noises.shape}, {costs.shape}", fix="pass both"
        )
    if not np.isfinite(noises).all() or (noises < 0).any():
        where = np.argwhere(~np.isfinite(noises) | (noises < 0))[0]
        raise BadInput(
            "noise must be finite and at least 0",
            got=f"{noises[tuple(where)]} at slot {where[0]}, choice {where[1]}",
            fix="leave out a choice that diverged",
        )
    if not np.issubdtype(costs.dtype, np.integer) or (costs < 0).any():
        raise BadInput("cost must be integers, at least 0", got=costs.dtype, fix="count operations, not shares")
    if int(costs.max()) * len(costs) >= LARGEST_TOTAL:
        raise BadInput(f"total costs must stay below {LARGEST_TOTAL}", got=costs.max(), fix="divide out a common unit")
    costs = costs.astype(np.int64)
    least = int(costs.min(1).sum())
    if budget < least:
        raise BadInput(
            f"the budget must allow the cheapest selection, which costs {least}",
            got=budget,
            fix="raise it, or add a cheaper choice",
        )
    return noises, costs, budget
