"""Variables of ``simulator.observe_operands``.

A contraction is y = sum_i a_i b_i. ``operand`` is "left", a run-time operand a, or "right", the weight or the other
run-time operand b. A *gain* of a per-element quantity q of one operand is the mean over outputs of the sum over i of
q_i times the other operand's square: the output's noise power if q is the power of errors that do not depend on each
other. Taps that padding fills count as 0.
"""

from __future__ import annotations

from simulator.variable import Variable

_WHERE = "operands from full precision"
_REST = "what is left of an operand's error after its least-squares line on the operand"
COVERED = ("covered", "in_float", "other_arithmetic")
"""Whether operand rounding is all that a site's arithmetic does, by code."""

OPERANDS = (
    Variable("site_signal_power", ("step", "site"), "1", "output power", "mean of y^2 per element, bias included"),
    Variable(
        "operand_step_gain",
        ("step", "site", "operand"),
        "1",
        "gain of the squared step",
        f"of step^2, the distance of two codes; {_WHERE}",
    ),
    Variable(
        "operand_clip_gain",
        ("step", "site", "operand"),
        "1",
        "gain of clipping",
        f"of the squared distance to the outermost code, of elements beyond its cell; {_WHERE}",
    ),
    Variable(
        "operand_error_gain",
        ("step", "site", "operand"),
        "1",
        "gain of the operand's error",
        f"of (dequantized - operand)^2; {_WHERE}",
    ),
    Variable(
        "operand_rest_gain",
        ("step", "site", "operand"),
        "1",
        "gain of the rest of the operand's error",
        f"of the square of {_REST}; {_WHERE}",
    ),
    Variable("site_step_product", ("step", "site"), "1", "both steps", "mean over outputs of sum_i step_a^2 step_b^2"),
    Variable("site_error_product", ("step", "site"), "1", "both errors", "mean over outputs of sum_i e_a^2 e_b^2"),
    Variable("site_rest_product", ("step", "site"), "1", "both rests", f"site_error_product of {_REST}"),
    Variable(
        "site_line_power",
        ("step", "site"),
        "1",
        "noise of both lines",
        "mean over outputs of (sum_i (a_i + l_a(a_i)) (b_i + l_b(b_i)) - a_i b_i)^2, l being the least-squares line of "
        f"an operand's error on the operand; {_WHERE}",
    ),
    Variable(
        "site_drawn_noise",
        ("step", "site"),
        "1",
        "noise with the weights' own errors",
        "as the sum of site_line_power, operand_rest_gain and site_rest_product, but with a weight's error as it is in "
        f"the place of its line and rest; {_WHERE}",
    ),
    Variable(
        "operand_clipped_share",
        ("step", "site", "operand"),
        "1",
        "clipped share",
        f"share of elements beyond the outermost codes' cells; {_WHERE}",
    ),
    Variable("operand_intervals", ("step", "site", "operand"), "1", "intervals", "largest code minus smallest code"),
    Variable("site_covered", ("step", "site"), "1", "covered by the theory of operand rounding", ", ".join(COVERED)),
)
