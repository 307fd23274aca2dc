"""Runs on Gaussian data as exact linear algebra: what a sampler makes of 1, x_T and every z, by its own steps.

Data N(m, s^2): x_t has variance V = abar s^2 + 1 - abar, the exact epsilon is sqrt(1 - abar) (x - sqrt(abar) m) / V,
and the probability flow keeps (x - sqrt(abar) m) / sqrt(V). A tensor of coefficients over (1, x_T, z_1, ..., z_n)
stands for x, so that one run of the sampler's own code gives mean and variance of every step without sampling.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from samplers import Float64State, Node, Prediction, Update, advance
from samplers.coefficients import history_length
from samplers.parameterization import predict

STATE = Float64State()


def continuous_nodes(count: int, first: float = 1.0, last: float = 0.02) -> tuple[Node, ...]:
    """count steps evenly spaced in t on abar(t) = exp(-0.1 t - 9.95 t^2), the continuous linear schedule."""
    times = np.linspace(first, last, count + 1)
    return tuple(Node(1000 * t, np.exp(-0.1 * t - 9.95 * t * t)) for t in times)


def level_nodes(sigmas: Sequence[float]) -> tuple[Node, ...]:
    """Nodes of given levels sigma = sqrt((1 - abar) / abar)."""
    return tuple(Node(1000.0 - i, np.float64(1 / (1 + s * s))) for i, s in enumerate(sigmas))


def coefficients(updates: Sequence[Update], m: float, s: float) -> torch.Tensor:
    """x after the last step, over (1, x_T, z of each update)."""
    x, *z = torch.eye(len(updates) + 2, dtype=torch.float64)[1:]
    one = torch.eye(len(updates) + 2, dtype=torch.float64)[0]
    earlier: tuple[Prediction, ...] = ()
    for update, noise in zip(updates, z, strict=True):
        abar = float(update.alpha_cumprod)
        epsilon = math.sqrt(1 - abar) / (abar * s * s + 1 - abar) * (x - math.sqrt(abar) * m * one)
        prediction = Prediction(*predict(STATE, "epsilon", update, x, epsilon))
        x = advance(STATE, update, x, prediction, noise, earlier)
        earlier = (prediction, *earlier)[: history_length(updates)]
    return x


def marginal(node: Node, m: float, s: float) -> tuple[float, float]:
    """Mean and variance of x there."""
    abar = float(node.alpha_cumprod)
    return math.sqrt(abar) * m, abar * s * s + 1 - abar


def moments_from(updates: Sequence[Update], m: float, s: float, x: float) -> tuple[float, float]:
    """Mean and variance after the last step of a run that starts at the point ``x``."""
    constant, gain, *noise = coefficients(updates, m, s).tolist()
    return constant + gain * x, sum(c * c for c in noise)


def reverse_moments(nodes: Sequence[Node], m: float, s: float, x: float) -> tuple[float, float]:
    """The same of the forward process reversed in time, which is what ancestral samplers discretise.

    Cov(x_end, x_start) = sqrt(abar_start / abar_end) V_end, so that both are those of a Gaussian regression.
    """
    (mean, variance), (end_mean, end_variance) = marginal(nodes[0], m, s), marginal(nodes[-1], m, s)
    covariance = math.sqrt(float(nodes[0].alpha_cumprod / nodes[-1].alpha_cumprod)) * end_variance
    return end_mean + covariance / variance * (x - mean), end_variance - covariance**2 / variance


def flow_error(updates: Sequence[Update], nodes: Sequence[Node], m: float, s: float, x: float = 1.7) -> float:
    """Distance of a deterministic run from the probability flow through ``x`` at the first node."""
    constant, gain, *_ = coefficients(updates, m, s).tolist()
    (mean, variance), (end_mean, end_variance) = marginal(nodes[0], m, s), marginal(nodes[-1], m, s)
    exact = end_mean + math.sqrt(end_variance / variance) * (x - mean)
    return abs(constant + gain * x - exact)


def slopes(errors: Sequence[float]) -> np.ndarray:
    """log2 of the ratio of each error to the next, whose steps are half as long."""
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
