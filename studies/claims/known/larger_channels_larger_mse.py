"""PTQ4DiT: channels of larger magnitude have larger quantization errors, of activations and of weights.

Rounding to one scale costs all channels about the same, so the claim is not true by construction: errors differ where
small channels fall into few codes, or where scales differ. A rank correlation of 0.5 is a tendency that one sees; an
error of 3 dB more is twice the power, less would not make these channels the difficulty.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simulator.calibration.balancing.families import graph_of
from simulator.calibration.balancing.weighting import spearman
from studies.claims.channels import channel_errors, excess_db
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import plain, prepared, subject
from studies.claims.verdict import Direction
from studies.recipes.known.ptq4dit import RECIPE


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """Over all layers that PTQ4DiT balances, W4A8."""
    (made,) = prepared([plain("w4a8", setting)], setting, seed, report)
    model, sampler = subject(setting)
    layers = channel_errors(
        made.network, sampler, graph_of(model).readers, samples=setting.samples, seed=seed,
        batch_size=setting.batch_size, progress=lambda done, total: report("observing channels", done, total),
    ).values()  # fmt: skip
    pairs = {
        "activations": [(one.activations, one.activation_errors) for one in layers],
        "weights": [(one.weight, one.weight_errors) for one in layers],
    }
    found = {}
    for name, every in pairs.items():
        found[f"{name}-rank"] = float(np.mean([spearman(errors[None], sizes)[0] for sizes, errors in every]))
        found[f"{name}-excess"] = float(np.mean([excess_db(sizes, errors) for sizes, errors in every]))
    return found


CLAIM = Claim(
    "larger-channels-larger-mse",
    "Channels with greater maximal magnitudes incur larger quantization errors.",
    RECIPE.source,
    tuple(
        endpoint
        for name, bits in (("activations", 8), ("weights", 4))
        for endpoint in (
            Endpoint(
                f"{name}-rank", f"Spearman's rho over channels of magnitude and MSE, {name} at {bits} bits", "1",
                Direction.ABOVE, 0.5,
            ),
            Endpoint(
                f"{name}-excess", f"MSE of the 10 % largest channels over that of the others, {name} at {bits} bits",
                "dB", Direction.ABOVE, 3.0,
            ),
        )
    ),
    (Setting("digits-dit", samples=128),),
    measure,
)  # fmt: skip
