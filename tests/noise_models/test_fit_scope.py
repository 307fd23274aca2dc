"""Claim: every fitted correction is refused, by a typed error that names the field, where its system is another."""

from __future__ import annotations

import json

import numpy as np
import pytest
from planted_noise import CONFIG, SAMPLER, planted, recorded_run

from noise_models import D2DPM, PTQD, TimestepAware, fit_d2dpm, fit_ptqd, fit_timestep_aware
from samplers import DDIM, DDPM, BadInput, NoiseSchedule

Y, E = planted(1, [0.1, 0.2], [[0.1], [0.0]], [0.1, 0.2], samples=16)
RUN = recorded_run(Y, E, guidance=2.0)
DRIFT = RUN.assign(state_accumulated=RUN.epsilon_injected)


def fits() -> dict[str, PTQD | D2DPM | TimestepAware]:
    return {
        "ptqd": fit_ptqd(RUN),
        "ptqd-unabsorbed": fit_ptqd(RUN, absorb=False),
        "d2dpm": fit_d2dpm(RUN),
        "d2dpm-sampled": fit_d2dpm(RUN, sampled=True),
        "tac": fit_timestep_aware(DRIFT),
    }


def use(**changes: object) -> dict[str, object]:
    own = json.loads(RUN.attrs["config"])
    return {**own, "purpose": "evaluate", **changes}


def schedule(*arguments: object) -> dict[str, object]:
    return DDIM(NoiseSchedule(*arguments), 50, eta=1.0, steps_offset=1).config()


OTHERS = {
    "sampler.num_inference_steps": {"sampler": DDIM(SAMPLER.schedule, 40, eta=1.0, steps_offset=1).config()},
    "sampler.eta": {"sampler": DDIM(SAMPLER.schedule, 50, eta=0.5, steps_offset=1).config()},
    "sampler.schedule.beta_end": {"sampler": schedule("scaled_linear", 1000, 0.00085, 0.013)},
    "sampler": {"sampler": DDPM(SAMPLER.schedule, 50).config()},
    "guidance": {"guidance": 3.0},
    "scheme": {"scheme": "w8a8"},
}


@pytest.mark.parametrize("name", ["ptqd", "ptqd-unabsorbed", "d2dpm", "d2dpm-sampled", "tac"])
@pytest.mark.parametrize("field", OTHERS)
def test_check__refuses_another_schedule_guidance_or_scheme(name: str, field: str) -> None:
    fit = fits()[name]
    fit.check(use())
    with pytest.raises(BadInput, match=f"whose {field}") as refused:
        fit.check(use(**OTHERS[field]))
    assert "fit it again" in str(refused.value)


def test_check__guidance_that_a_fit_did_not_have_is_another_one() -> None:
    with pytest.raises(BadInput, match="whose guidance is None"):
        fit_ptqd(recorded_run(Y, E)).check({**CONFIG, "purpose": "evaluate", "guidance": 2.0})
    assert np.isfinite(fit_ptqd(RUN).k).all()
