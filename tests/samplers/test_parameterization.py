"""Claim: from any prediction type, predict recovers the x0 and epsilon that x_t was made of."""

import pytest
import torch

from samplers import DDIM, BadInput, Float64State, NoiseSchedule, predict

UPDATES = DDIM(NoiseSchedule(), 10).updates


@pytest.mark.parametrize("update", UPDATES[::3], ids=lambda u: f"t{u.timestep}")
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_predict__recovers_x0_and_epsilon(prediction_type: str, update) -> None:
    generator = torch.Generator().manual_seed(0)
    x0, epsilon = torch.randn(2, 5, 4, dtype=torch.float64, generator=generator)
    signal, noise = float(update.alpha_cumprod) ** 0.5, (1 - float(update.alpha_cumprod)) ** 0.5
    x = signal * x0 + noise * epsilon
    output = {"epsilon": epsilon, "sample": x0, "v_prediction": signal * epsilon - noise * x0}[prediction_type]
    got_x0, got_epsilon = predict(Float64State(), prediction_type, update, x, output)
    # Dividing by sqrt(abar) or sqrt(1 - abar) magnifies rounding by its inverse: at most 1e-13 on this schedule.
    torch.testing.assert_close(got_x0, x0, rtol=0, atol=1e-13)
    torch.testing.assert_close(got_epsilon, epsilon, rtol=0, atol=1e-13)


def test_predict__refuses_an_unknown_type() -> None:
    x = torch.zeros(1, dtype=torch.float64)
    with pytest.raises(BadInput, match="one of epsilon, sample, v_prediction, got 'x0'"):
        predict(Float64State(), "x0", UPDATES[0], x, x)
