"""TDQ: latent diffusion models depend less on time, and gain less from scales that follow it.

Both models are the seed's own: the pixel model is measured beside the latent one. A tenth of the operands is three of
digits-unet's 27, the fewest that are more than an odd layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from simulator.calibration.intervals.generator import TDQ
from simulator.calibration.sensitivity.temporal import temporal_correlation
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import final_db
from studies.claims.timesteps import fit_of, observe, paired, static, statistics
from studies.claims.verdict import Direction
from studies.recipes.known.tdq_ptq import SOURCE

PIXELS, BITS = "digits-unet", "w8a4"


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """Share of operands that follow the timestep, and TDQ's lead, of the latent model and of the pixel model."""
    shares, leads = [], []
    for where in (setting, dataclasses.replace(setting, subject=PIXELS)):
        shares.append(temporal_correlation(statistics(where, seed, report)).share_above(0.5).share)
        observed, fit = observe(where, seed, report), fit_of(where)
        networks = [observed.network(observed.fitted(m, BITS, report, fit), BITS) for m in (TDQ(), static())]
        tdq, one = map(final_db, paired(networks, observed.sampler, where, seed, report))
        leads.append(tdq - one)
    return {"share": shares[0] - shares[1], "lead": leads[0] - leads[1]}


CLAIM = Claim(
    "latent-models-follow-less",
    "Activations of latent models depend less on the timestep, and scales that follow it gain less there.",
    SOURCE,
    (
        Endpoint(
            "share", "share of operands with |r(t, std)| > 0.5, digits-latent minus digits-unet", "1",
            Direction.BELOW, -0.1,
        ),
        Endpoint(
            "lead", "TDQ's lead over one scale, SQNR of the final sample, W8A4, digits-latent minus digits-unet", "dB",
            Direction.BELOW, -0.5,
        ),
    ),
    (Setting("digits-latent", samples=256),),
    measure,
)  # fmt: skip
