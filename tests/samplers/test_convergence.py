"""Claim: between fixed ends of a continuous schedule every sampler converges to the exact Gaussian with its own order.

Orders are the slope of error over step, where it has settled. Deterministic samplers are held against the probability
flow, and stochastic ones against the time-reversed forward process, both exactly (``linear_runs``). There the predicted
x0 is a martingale, so the mean of a run from one point is right for any number of steps: its variance has the order.
"""

from itertools import pairwise

import numpy as np
import pytest
from linear_runs import (
    coefficients,
    continuous_nodes,
    flow_error,
    level_nodes,
    marginal,
    moments_from,
    reverse_moments,
    slopes,
)

from samplers import (
    Node,
    Update,
    ddim_sigma,
    ddim_update,
    dpm_solver_updates,
    euler_ancestral_updates,
    euler_updates,
    heun_updates,
    plms_updates,
)

COUNTS = (160, 320)
DATA = [(0.5, 0.3), (-0.3, 2.0)]
X = 1.7


def ddim(nodes: tuple[Node, ...], eta: float = 0.0) -> tuple[Update, ...]:
    updates = []
    for here, there in pairwise(nodes):
        abar = here.alpha_cumprod, there.alpha_cumprod
        updates.append(ddim_update(here.timestep, there.timestep, *abar, ddim_sigma(*abar, eta)))
    return tuple(updates)


def dpm(order: int, **knobs):
    def updates(nodes: tuple[Node, ...]) -> tuple[Update, ...]:
        count = len(nodes) - 1
        pairs = (1, 2) * (count // 2) if knobs.get("solver") == "singlestep" else (1, *[2] * (count - 1))
        return dpm_solver_updates(nodes, pairs if order == 2 else (1,) * count, **knobs)

    return updates


DETERMINISTIC = {
    "ddim": (ddim, 1),
    "euler": (euler_updates, 1),
    "heun": (heun_updates, 2),
    "plms": (plms_updates, 2),  # steps even in t, not in sigma
    "dpm-1": (dpm(1), 1),
    "dpm-2m-midpoint": (dpm(2), 2),
    "dpm-2m-heun": (dpm(2, solver_type="heun"), 2),
    "dpm-2s-midpoint": (dpm(2, solver="singlestep"), 2),
    "dpm-2s-heun": (dpm(2, solver="singlestep", solver_type="heun"), 2),
}
STOCHASTIC = {
    "ddim-eta-1": (lambda nodes: ddim(nodes, 1.0), 1),
    "euler-ancestral": (euler_ancestral_updates, 1),
    "sde-1": (dpm(1, algorithm_type="sde-dpmsolver++"), 1),
    "sde-2m-midpoint": (dpm(2, algorithm_type="sde-dpmsolver++"), 2),
    "sde-2m-heun": (dpm(2, algorithm_type="sde-dpmsolver++", solver_type="heun"), 2),
}


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize(("m", "s"), DATA)
def test_deterministic_samplers__converge_to_the_flow_with_their_order(name: str, m: float, s: float) -> None:
    make, order = DETERMINISTIC[name]
    runs = [continuous_nodes(count, 0.8, 0.05) for count in COUNTS]
    errors = [flow_error(make(nodes), nodes, m, s, X) for nodes in runs]
    assert np.all(np.abs(slopes(errors) - order) < 0.2), (errors, slopes(errors))
    assert errors[-1] < 0.03


@pytest.mark.parametrize(("name", "order"), [("plms", 3), ("heun", 2)])
def test_plms__reaches_the_order_of_its_start_on_even_levels(name: str, order: int) -> None:
    # Its weights are exact for polynomials in sigma: AB4 after two steps that err by h^3 each leaves order 3.
    make, _ = DETERMINISTIC[name]
    runs = [level_nodes(np.linspace(3, 0.3, count + 1)) for count in COUNTS]
    errors = [flow_error(make(nodes), nodes, -0.3, 2.0, X) for nodes in runs]
    assert np.all(np.abs(slopes(errors) - order) < 0.2), (errors, slopes(errors))


@pytest.mark.parametrize("name", STOCHASTIC)
@pytest.mark.parametrize(("m", "s"), DATA)
def test_stochastic_samplers__converge_weakly_with_their_order(name: str, m: float, s: float) -> None:
    make, order = STOCHASTIC[name]
    runs = [continuous_nodes(count, 0.5, 0.05) for count in COUNTS]
    found = [moments_from(make(nodes), m, s, X) for nodes in runs]
    wanted = [reverse_moments(nodes, m, s, X) for nodes in runs]
    assert np.allclose([mean for mean, _ in found], [mean for mean, _ in wanted], rtol=0, atol=1e-12)
    errors = [abs(variance - exact) for (_, variance), (_, exact) in zip(found, wanted, strict=True)]
    assert np.all(np.abs(slopes(errors) - order) < 0.2), (errors, slopes(errors))
    assert errors[-1] < 0.05


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize(("m", "s"), DATA)
def test_ddim__keeps_the_marginal_variance_with_order_one_for_any_eta(eta: float, m: float, s: float) -> None:
    errors = []
    for count in COUNTS:
        nodes = continuous_nodes(count, 0.5, 0.05)
        _, gain, *noise = coefficients(ddim(nodes, eta), m, s).tolist()
        start, end = marginal(nodes[0], m, s)[1], marginal(nodes[-1], m, s)[1]
        errors.append(abs(gain * gain * start + sum(c * c for c in noise) - end))
    assert np.all(np.abs(slopes(errors) - 1) < 0.2), (errors, slopes(errors))
