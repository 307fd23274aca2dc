"""Claim: an endpoint can come out on either side of its smallest effect."""

from __future__ import annotations

import numpy as np
import pytest

from noise_models.correction.ptqd import PTQD
from samplers import DDIM, NoiseSchedule
from studies.claims.known import almost_always_absorbable


@pytest.mark.parametrize(("variance", "confirmed"), [(1e-6, True), (1e-2, True), (0.2, True), (3.0, False)])
def test_absorbable__leaves_out_the_step_without_noise(variance, confirmed) -> None:
    setting = almost_always_absorbable.CLAIM.settings[0]
    (endpoint,) = almost_always_absorbable.CLAIM.endpoints
    sampler = DDIM(NoiseSchedule(), setting.steps, 1.0)
    steps = np.ones(setting.steps)
    fit = PTQD(0 * steps, 0 * steps[:, None], variance * steps, "paper", True, {})
    found = almost_always_absorbable.share(sampler, fit)
    assert (found > endpoint.smallest) is confirmed
    assert (found == 1.0) is (variance < 1e-3)
