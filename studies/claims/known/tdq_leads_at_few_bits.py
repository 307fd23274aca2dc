"""TDQ: its lead over static scales grows as activation bits fall.

The paper's evidence is FID of trained W8A8 to W3A3 and of post-training W8A8 to W8A6; here intervals are fitted after
training (see ``timesteps``), weights at 8 bits. A lead that is the same in dB at every width already grows in FID,
which follows the noise's power: so growth is measured in dB, and the noise taken away beside it. 0.5 dB is 11 % of
the noise; 1 % of the signal is where noise begins to show on a sample.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from noise_models.conversions import noise_to_signal_from_db
from simulator.calibration.intervals.generator import TDQ
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import final_db
from studies.claims.timesteps import fit_of, observe, paired, static
from studies.claims.verdict import Direction
from studies.recipes.known.tdq_ptq import SOURCE

WIDTHS = ("w8a8", "w8a6", "w8a4")


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """TDQ and one fitted scale at 8, 6 and 4 bits."""
    observed, fit = observe(setting, seed, report, elements=256), fit_of(setting)
    networks = [
        observed.network(observed.fitted(method, bits, report, fit), bits)
        for bits in WIDTHS
        for method in (TDQ(), static())
    ]
    db = list(map(final_db, paired(networks, observed.sampler, setting, seed, report)))
    eight, six, four = (tdq - one for tdq, one in zip(db[::2], db[1::2], strict=True))
    noise = noise_to_signal_from_db(np.array(db))
    removed = noise[1::2] - noise[::2]
    return {"eight-to-six": six - eight, "six-to-four": four - six, "noise": float(removed[-1] - removed[0])}


CLAIM = Claim(
    "tdq-leads-at-few-bits",
    "What scales that follow the timestep gain over one scale grows as the bits of activations fall.",
    SOURCE,
    (
        Endpoint(
            "eight-to-six", "TDQ's lead over one scale, SQNR of the final sample, W8A6 minus W8A8", "dB",
            Direction.ABOVE, 0.5,
        ),
        Endpoint("six-to-four", "the same, W8A4 minus W8A6", "dB", Direction.ABOVE, 0.5),
        Endpoint(
            "noise", "noise that TDQ takes away, as a share of the final sample's power, W8A4 minus W8A8", "1",
            Direction.ABOVE, 0.01,
        ),
    ),
    (Setting("digits-unet", samples=256), Setting("digits-dit", samples=256)),
    measure,
)  # fmt: skip
