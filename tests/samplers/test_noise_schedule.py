"""Claim: float64 tables are the published schedules, float32 tables differ by rounding alone, bad input is told."""

import dataclasses
import pickle

import numpy as np
import pytest

from samplers import DDIM, DDPM, BadInput, NoiseSchedule

SCHEDULES = [
    NoiseSchedule("linear"),
    NoiseSchedule("scaled_linear", 1000, 0.00085, 0.012),
    NoiseSchedule("scaled_linear", 1000, 0.0015, 0.0195),
    NoiseSchedule("squaredcos_cap_v2"),
    NoiseSchedule("linear", 97),
]


def test_schedule__linear_and_scaled_linear_betas_are_evenly_spaced_in_their_own_scale() -> None:
    linear = NoiseSchedule("linear", 11, 0.1, 0.2)
    np.testing.assert_allclose(linear.betas, 0.1 + 0.01 * np.arange(11), rtol=1e-14)
    scaled = NoiseSchedule("scaled_linear", 5, 0.01, 0.25)
    np.testing.assert_allclose(scaled.betas, (0.1 + 0.1 * np.arange(5)) ** 2, rtol=1e-14)


def test_schedule__cosine_alphas_cumprod_is_the_squared_cosine_until_the_cap() -> None:
    # The product of beta = 1 - f((t+1)/T)/f(t/T) telescopes to f((t+1)/T)/f(0); only the last beta meets the cap.
    schedule = NoiseSchedule("squaredcos_cap_v2", 1000)
    u = np.arange(1, 1001) / 1000
    closed = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(schedule.alphas_cumprod[:-1], closed[:-1], rtol=1e-9)
    assert schedule.betas[-1] == 0.999


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_schedule__alphas_cumprod_is_the_product_in_float64(schedule: NoiseSchedule) -> None:
    assert schedule.betas.dtype == schedule.alphas_cumprod.dtype == np.float64
    logs = np.cumsum(np.log1p(-schedule.betas))
    np.testing.assert_allclose(schedule.alphas_cumprod, np.exp(logs), rtol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_schedule__float32_tables_stay_within_the_rounding_bound(schedule: NoiseSchedule) -> None:
    # With u = 2^-24: a float32 beta is off by a few roundings (6u covers linspace and the square); 1 - beta rounds once
    # more (u/2 below 1); these errors add up along the product, which is rounded once at the end.
    single = dataclasses.replace(schedule, tables="float32")
    assert single.betas.dtype == single.alphas_cumprod.dtype == np.float32
    u = 2.0**-24
    betas = schedule.betas
    assert np.all(np.abs(single.betas - betas) <= 6 * u * betas)
    bound = np.cumsum((6 * u * betas + u / 2) / (1 - betas)) + u
    error = np.abs(single.alphas_cumprod / schedule.alphas_cumprod - 1)
    assert np.all(error <= bound * 1.01)
    # The bound that the docstring states, and that the two tables are not one and the same.
    cosine = schedule.beta_schedule == "squaredcos_cap_v2"
    assert 1e-8 < error.max() < (2e-5 if cosine else 2e-6)
    assert np.abs((1 - single.alphas_cumprod) / (1 - schedule.alphas_cumprod) - 1).max() < 6e-4


def test_schedule__tables_are_read_only_and_survive_pickling() -> None:
    schedule = pickle.loads(pickle.dumps(NoiseSchedule()))
    with pytest.raises(ValueError, match="read-only"):
        schedule.betas[0] = 0.5
    with pytest.raises(ValueError, match="read-only"):
        schedule.alphas_cumprod[0] = 0.5


def test_schedule__equal_arguments_hash_alike_whatever_their_number_type() -> None:
    a = NoiseSchedule("linear", 100, 0.001, 0.5)
    b = NoiseSchedule("linear", np.int64(100), np.float64(0.001), np.float32(0.5))
    assert a == b
    assert hash(a) == hash(b)
    assert a.config() == b.config()
    assert all(type(v) in (str, int, float) for v in b.config().values())
    assert a != dataclasses.replace(a, tables="float32")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta_schedule": "cosine"}, "linear, scaled_linear, squaredcos_cap_v2, got 'cosine'"),
        ({"tables": "float16"}, "float64, float32"),
        ({"num_train_timesteps": 0}, "num_train_timesteps must be an integer of at least 1, got 0"),
        ({"num_train_timesteps": 10.0}, "num_train_timesteps"),
        ({"num_train_timesteps": True}, "num_train_timesteps"),
        ({"beta_start": 0.0}, "0 < beta_start"),
        ({"beta_start": 0.03}, "beta_start <= beta_end"),
        ({"beta_end": 1.0}, "beta_end < 1"),
        ({"beta_end": float("nan")}, "beta_end must be a finite number"),
        ({"beta_start": "0.1"}, "beta_start must be a finite number"),
        ({"beta_start": None}, "beta_start must be a finite number"),
        ({"beta_start": 1e-9, "tables": "float32"}, "strictly between 0 and 1"),
        ({"beta_end": 0.999}, "strictly between 0 and 1"),
    ],
)
def test_schedule__refuses_bad_input(change: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        NoiseSchedule(**change)


BETAS = (0.1, 0.3, 0.2)


def test_schedule__takes_betas_one_by_one_in_any_order() -> None:
    schedule = NoiseSchedule(num_train_timesteps=3, trained_betas=list(BETAS))
    assert schedule.betas.tolist() == list(BETAS)
    np.testing.assert_allclose(schedule.alphas_cumprod, [0.9, 0.63, 0.504], rtol=1e-15)
    assert hash(schedule) == hash(NoiseSchedule(num_train_timesteps=3, trained_betas=BETAS))
    assert NoiseSchedule(**schedule.config()) == schedule
    assert schedule.config()["trained_betas"] == list(BETAS)


def test_schedule__without_trained_betas_does_not_name_them() -> None:
    assert "trained_betas" not in NoiseSchedule().config()
    assert "trained_betas" not in DDIM(NoiseSchedule(), 2).config()["schedule"]
    assert "trained_betas" not in DDPM(NoiseSchedule(), 2).config()["schedule"]


@pytest.mark.parametrize("betas", [BETAS[:2], (), (0.1, 0.0, 0.2), (0.1, 1.0, 0.2), (0.1, float("nan"), 0.2)])
def test_schedule__refuses_betas_that_are_none(betas: tuple[float, ...]) -> None:
    with pytest.raises(BadInput, match="trained_betas must"):
        NoiseSchedule(num_train_timesteps=3, trained_betas=betas)


@pytest.mark.parametrize("sampler", [DDIM, DDPM])
def test_sampler__needs_a_schedule(sampler: type) -> None:
    with pytest.raises(BadInput, match="sampling needs a noise schedule"):
        sampler(None, 5)
