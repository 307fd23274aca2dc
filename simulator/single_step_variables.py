"""Variables of ``simulator.single_step``."""

from __future__ import annotations

from simulator.variable import INJECTED, Variable

_GIVEN = "given full precision's x_t and earlier predictions, without fresh noise"

ONE_STEP = (
    Variable(
        "mean_injected",
        ("step", "channel", "block", "moment"),
        "1",
        "injected noise of the mean of x_{t-1}",
        f"joint moments of y = x_{{t-1}} of the sampler {_GIVEN}, and e = that of the arm's update on its corrected "
        f"epsilon - y, per element; {INJECTED}",
    ),
    Variable(
        "residual_injected",
        ("step", "channel", "block", "moment"),
        "1",
        "injected noise of corrected epsilon against x_t",
        f"joint moments of y = x_t and e = corrected quantized epsilon - epsilon, per element; {INJECTED}",
    ),
)
