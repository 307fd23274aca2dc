"""Variables of ``simulator.attribute``.

``rung`` is what of the scheme was simulated; ``site_channel`` is a flat list of the channels of all sites.
"""

from __future__ import annotations

from simulator.variable import INJECTED, Variable

ATTRIBUTION = (
    Variable(
        "epsilon_rung",
        ("rung", "step", "channel", "block", "moment"),
        "1",
        "noise of epsilon on a rung",
        f"joint moments of y = epsilon and e = the rung's epsilon - epsilon, per element; {INJECTED}",
    ),
    Variable(
        "epsilon_rung_added",
        ("rung", "step", "channel", "block", "moment"),
        "1",
        "noise of epsilon that a rung adds",
        f"joint moments of y = epsilon on the rung before and e = the rung's epsilon - y, per element; the first rung "
        f"stands on float; {INJECTED}",
    ),
    Variable(
        "epsilon_rung_cross",
        ("rung", "step", "channel", "block"),
        "1",
        "cross term of a rung's noise",
        "mean of the product of the error on the rung before and what the rung adds: the power of an error is that of "
        "the rung before, plus the added power, plus twice this",
    ),
    Variable(
        "site_rung",
        ("rung", "step", "site", "block", "moment"),
        "1",
        "noise of a site's output on a rung",
        f"joint moments of y = float output and e = the rung's output - y, all sites on the rung; {INJECTED}",
    ),
    Variable(
        "site_rung_added",
        ("rung", "step", "site", "block", "moment"),
        "1",
        "noise of a site's output that a rung adds",
        f"joint moments of y = output on the rung before and e = the rung's output - y; {INJECTED}",
    ),
    Variable(
        "site_rung_cross",
        ("rung", "step", "site", "block"),
        "1",
        "cross term of a rung's noise at a site",
        "as epsilon_rung_cross, of the site's output",
    ),
    Variable(
        "site_local",
        ("step", "site", "block", "moment"),
        "1",
        "local noise of a site's output",
        "joint moments of y = float output and e = output of the site's complete arithmetic on float operands - y",
    ),
    Variable(
        "site_local_clipped",
        ("step", "site"),
        "1",
        "clipped operand elements, local",
        "run-time operand elements whose code fell outside its range before clipping, operands from full precision",
    ),
    Variable(
        "site_rung_clipped",
        ("rung", "step", "site"),
        "1",
        "clipped on a rung",
        "run-time operand elements whose code fell outside its range, over all samples",
    ),
    Variable(
        "site_rung_overflowed",
        ("rung", "step", "site"),
        "1",
        "overflowed on a rung",
        "outputs of which the register lost something, over all samples",
    ),
    Variable(
        "site_rung_saturated",
        ("rung", "step", "site"),
        "1",
        "saturated on a rung",
        "requantized outputs whose code fell outside its range, over all samples",
    ),
    Variable("site_reference_low", ("step", "site"), "1", "smallest output", "over all samples, in full precision"),
    Variable("site_reference_high", ("step", "site"), "1", "largest output", "over all samples, in full precision"),
    Variable("site_quantized_low", ("step", "site"), "1", "smallest output", "over all samples, in the last rung"),
    Variable("site_quantized_high", ("step", "site"), "1", "largest output", "over all samples, in the last rung"),
    Variable(
        "site_channel_rung",
        ("step", "site_channel", "moment"),
        "1",
        "noise of a channel of a site's output",
        "as site_rung on the last rung, per channel, pooled over samples",
    ),
    Variable(
        "site_sample_rung",
        ("step", "site", "sample", "moment"),
        "1",
        "noise of a site's output per sample",
        "as site_rung on the last rung, over the elements of one sample",
    ),
)
