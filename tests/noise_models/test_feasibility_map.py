"""Claim: the map holds the bound of every step of every sampler of the family, and NaN where no step is."""

import numpy as np
import pytest
from planted_noise import LATENT

from noise_models import feasibility, feasibility_map
from samplers import DDIM, BadInput

OPTIONS = {"steps_offset": 1, "set_alpha_to_one": False}


def test_feasibility_map__gives_the_known_bounds_of_the_latent_schedule() -> None:
    bound = feasibility_map(LATENT, [0.5, 1.0], [20, 250], **OPTIONS).absorbable_variance.sel(eta=1.0)
    known = {
        20: {951: "0.70", 451: "1.92", 51: "0.034", 1: "0.99"},
        250: {997: "12.3", 497: "27.3", 9: "1.45", 5: "0.49", 1: "0.99"},
    }
    for steps, printed in known.items():
        for timestep, text in printed.items():
            half_digit = 0.5 * 10.0 ** -len(text.partition(".")[2])
            assert float(bound.sel(steps=steps, timestep=timestep)) == pytest.approx(
                float(text), abs=half_digit * 1.001
            )


def test_feasibility_map__holds_each_sampler_and_nothing_else() -> None:
    result = feasibility_map(LATENT, [1.0, 0.0, 0.3], [7, 20, 3], **OPTIONS)
    assert result.eta.values.tolist() == [1.0, 0.0, 0.3]
    assert result.steps.values.tolist() == [7, 20, 3]
    assert (np.diff(result.timestep) < 0).all()
    for eta in (1.0, 0.0, 0.3):
        for steps in (7, 20, 3):
            sampler = DDIM(LATENT, steps, eta=eta, **OPTIONS)
            here = result.sel(eta=eta, steps=steps)
            own = feasibility(sampler)
            visited = here.dropna("timestep", how="all")
            np.testing.assert_array_equal(visited.timestep, own.timestep)
            for name in ("absorbable_variance", "b", "c"):
                np.testing.assert_array_equal(visited[name], own[name])
                assert result[name].attrs == own[name].attrs
    assert (result.absorbable_variance.sel(eta=0.0).isel(timestep=0, drop=True).fillna(0) == 0).all()


@pytest.mark.parametrize(
    ("etas", "counts"), [([], [20]), ([1.0], []), ([1.0, 1.0], [20]), ([1.0], [20, 20]), ([-1], [2])]
)
def test_feasibility_map__refuses_empty_and_repeated_lists(etas, counts) -> None:
    with pytest.raises(BadInput):
        feasibility_map(LATENT, etas, counts)
