"""PTQ-AttnDM: a score of activation statistics finds the layers that are fragile.

A score that spends bits must put most pairs of layers in the right order: Spearman's rho of 0.5 means two of three.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simulator.calibration.balancing.weighting import spearman
from simulator.calibration.collection.fixed import Uniform
from simulator.calibration.collection.trajectories import collect
from simulator.calibration.sensitivity.activations import activation_statistics
from simulator.calibration.sensitivity.one_at_a_time import one_at_a_time
from simulator.calibration.sensitivity.scores import activation_scores
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.known.attention_8_bits import SOURCE
from studies.claims.measuring import plain, prepared, subject
from studies.claims.verdict import Direction

STEPS = 10


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """Over all sites; the score on calibration samples, the loss on others."""
    (made,) = prepared([plain("w8a8", setting)], setting, seed, report)
    model, sampler = subject(setting)
    policy = Uniform(min(STEPS, setting.steps))
    seen, fresh = (
        collect(model, sampler, policy, samples=setting.samples, seed=seed, purpose=purpose)
        for purpose in ("calibrate", "observe")
    )
    scores = activation_scores(activation_statistics(model, seen.x, seen.timestep))
    losses = one_at_a_time(
        made.network, fresh.x, fresh.timestep, step=fresh.step, batch_size=setting.batch_size,
        progress=lambda done, total: report("quantizing one site at a time", done, total),
    ).pooled()  # fmt: skip
    sites = [site for site in losses if site in scores]
    score, loss = (np.array([values[site] for site in sites]) for values in (scores, losses))
    return {"rank-correlation": float(spearman(score[None], loss)[0])}


CLAIM = Claim(
    "sensitivity-score-ranks-layers",
    "Range, variance and mean of a layer's activations tell how much quantizing it costs.",
    SOURCE,
    (
        Endpoint(
            "rank-correlation", "Spearman's rho over sites of the score and of epsilon's noise with that site alone in "
            "W8A8", "1", Direction.ABOVE, 0.5,
        ),
    ),
    (Setting("digits-dit", samples=32), Setting("digits-unet", samples=32)),
    measure,
)  # fmt: skip
