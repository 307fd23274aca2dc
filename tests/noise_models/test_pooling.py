"""Claim: pooled and delete-one statistics from stored block moments are those of the raw elements."""

import numpy as np
import pytest
from planted_noise import planted, recorded_run

from noise_models import block_sums
from samplers import BadInput


def raw(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
    return values[:, keep].reshape(len(values), -1)


def central(y: np.ndarray, e: np.ndarray, p: int, q: int) -> np.ndarray:
    return ((y - y.mean(1, keepdims=True)) ** p * (e - e.mean(1, keepdims=True)) ** q).mean(1)


@pytest.fixture
def noise() -> tuple[np.ndarray, np.ndarray]:
    return planted(1, [0.1, -0.3], [[0.2, -1.0, 3.0], [0.0, 0.5, 2.0]], [0.3, 0.1], samples=150, elements=8, mean=2.0)


def test_block_sums__give_every_moment_of_all_elements_up_to_order_4(noise) -> None:
    y, e = noise
    run = recorded_run(y, e)
    pooled = block_sums(run.epsilon_injected, run.epsilon_count, ("channel",), order=4).total()
    every = np.ones(150, bool)
    y, e = raw(y, every), raw(e, every)
    np.testing.assert_allclose(pooled.mean_y, y.mean(1), rtol=1e-12)
    np.testing.assert_allclose(pooled.mean_e, e.mean(1), rtol=1e-12)
    assert set(pooled.central) == {(t - q, q) for t in (2, 3, 4) for q in range(t + 1)}
    for (p, q), moment in pooled.central.items():
        np.testing.assert_allclose(moment, central(y, e, p, q), rtol=1e-10, atol=1e-12)


def test_without_each__leaves_out_exactly_the_samples_of_one_block(noise) -> None:
    y, e = noise
    run = recorded_run(y, e)
    others = block_sums(run.epsilon_injected, run.epsilon_count, ("channel",), order=3).without_each()
    for block in (0, 21, 22, 63):  # 150 samples: blocks 0..21 hold three samples, the others two
        keep = np.arange(150) % 64 != block
        assert others.count[block, 0] == keep.sum() * 24
        for p, q in ((2, 0), (1, 1), (0, 2), (1, 2)):
            expected = central(raw(y, keep), raw(e, keep), p, q)
            np.testing.assert_allclose(others.central[p, q][block], expected, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(others.power_e[block], (raw(e, keep) ** 2).mean(1), rtol=1e-12)


@pytest.mark.parametrize("batches", [[150], [64, *[1] * 20, 66], [64, 64, 22], [7] * 21 + [3], [100, 50]])
def test_block_sums__do_not_depend_on_the_batches_that_were_merged(noise, batches) -> None:
    reference, other = recorded_run(*noise), recorded_run(*noise, batches=batches)
    expected, pooled = (
        block_sums(run.epsilon_injected, run.epsilon_count, ("channel",), order=4).total() for run in (reference, other)
    )
    for order, moment in expected.central.items():
        np.testing.assert_allclose(pooled.central[order], moment, rtol=1e-12)
    np.testing.assert_allclose(pooled.power_e, expected.power_e, rtol=1e-12)


def test_block_sums__keep_small_variance_on_a_large_mean() -> None:
    # Sums of y^2 at mean 1e6 and standard deviation 1 would leave 4 digits of the variance; the stored means, of
    # resolution 1e-10, leave 10.
    y, e = planted(2, [0.0], [[0.0]], [1.0], samples=70, elements=16, mean=1e6)
    run = recorded_run(y, e)
    sums = block_sums(run.epsilon_injected, run.epsilon_count, ("channel",))
    keep = np.arange(70) % 64 != 5
    np.testing.assert_allclose(sums.total().variance_y, y.var(), rtol=1e-9)
    np.testing.assert_allclose(sums.without_each().variance_y[5], y[:, keep].var(), rtol=1e-9)


def test_without_each__of_the_only_noisy_block_is_free_of_noise() -> None:
    y, e = planted(3, [0.1], [[0.0]], [0.1], samples=64, elements=4)
    e[:, :17] = e[:, 18:] = 0
    run = recorded_run(y, e)
    others = block_sums(run.epsilon_injected, run.epsilon_count, ("channel",)).without_each()
    assert others.power_e[17, 0] == 0
    assert (np.delete(others.power_e[:, 0], 17) > 0).all()


def test_without_each__of_a_block_far_louder_than_all_others_keeps_their_digits() -> None:
    # A million times the noise, hence 10^12 times the power, of mean 0: total minus own would leave four digits.
    y, e = planted(4, [0.0], [[0.0]], [0.1], samples=64, elements=8)
    e[:, 17, :, 4:] = -e[:, 17, :, :4]
    e[:, 17] *= 1e6
    run = recorded_run(y, e)
    others = block_sums(run.epsilon_injected, run.epsilon_count, ("channel",)).without_each()
    quiet = np.delete((y + e) - y, 17, 1)
    np.testing.assert_allclose(others.variance_e[17], quiet.var(), rtol=1e-9)


def test_block_sums__names_a_missing_dimension(noise) -> None:
    run = recorded_run(*noise)
    with pytest.raises(BadInput, match="site"):
        block_sums(run.epsilon_injected, run.epsilon_count, ("site",))
