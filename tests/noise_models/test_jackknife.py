"""Claim: intervals cover at their nominal rate, count samples as replicates and nothing else, and say why when NaN."""

import numpy as np
import pytest
from planted_noise import planted, recorded_one_sample_per_block, recorded_run
from scipy import stats

from noise_models import block_sums, decompose, from_replicates, jackknife, sqnr_db
from noise_models.inference.intervals import REASONS
from samplers import BadInput

TRIALS = 2000
# Binomial standard error at 95 %: sqrt(0.95 0.05 / 2000) = 0.49 %; 92..98 % is six of them to either side.


def test_jackknife__of_a_mean_is_students_t_interval() -> None:
    values = np.random.default_rng(5).standard_normal(64) + 3
    shares = np.full(64, 1 / 64)
    interval = from_replicates(values.mean(), (values.sum() - values) / 63, shares)
    low, high = stats.t.interval(0.95, 63, values.mean(), stats.sem(values))
    np.testing.assert_allclose([interval.low, interval.high], [low, high], rtol=1e-12)
    np.testing.assert_allclose(interval.standard_error, stats.sem(values), rtol=1e-11)


def test_jackknife__weighs_blocks_of_unequal_size() -> None:
    # Blocks of m_j unit-variance samples: the variance of the mean of all n is 1/n, and the estimate's is near that.
    # Relative standard error of one variance estimate: sqrt(2/63); over 400 trials 0.9 %, so 5 % is more than five.
    generator = np.random.default_rng(6)
    sizes = np.where(np.arange(64) < 20, 4, 1)
    sums = generator.standard_normal((400, 64)) * np.sqrt(sizes)
    total, n = sums.sum(1), sizes.sum()
    replicates = (total - sums.T) / (n - sizes)[:, None]
    interval = from_replicates(total / n, replicates, sizes / n)
    assert np.mean(interval.standard_error**2) * n == pytest.approx(1, abs=0.05)


def test_sqnr_db__interval_covers_at_its_nominal_rate() -> None:
    # Each sample has its own noise power (log-normal), so that its pixels are far from independent. Steps are trials.
    generator = np.random.default_rng(7)
    spread, samples, elements = 0.5, 64, 4
    covered = []
    for _ in range(4):
        shape = (TRIALS // 4, samples, 1, elements)
        power = np.exp(spread * generator.standard_normal((*shape[:2], 1, 1)))
        y, e = generator.standard_normal(shape), np.sqrt(power) * 0.1 * generator.standard_normal(shape)
        result = sqnr_db(recorded_one_sample_per_block(y, e))
        truth = 20 - 10 * np.log10(np.exp(spread**2 / 2))
        covered.append((result.sqnr_db_low <= truth) & (truth <= result.sqnr_db_high))
    assert 0.92 <= np.mean(covered) <= 0.98


def test_decompose__intervals_cover_at_their_nominal_rate() -> None:
    k, bias, sigma = np.full(TRIALS // 2, 0.2), np.full((TRIALS // 2, 1), 0.1), np.full(TRIALS // 2, 0.3)
    result = decompose(recorded_one_sample_per_block(*planted(8, k, bias, sigma, samples=64, elements=4)))
    r = 0.2 / np.hypot(0.2, 0.3)
    # 1000 trials: standard error 0.69 %, so 92..98 % is four of them.
    truths = {"slope": 0.2, "bias": 0.1, "residual_variance": 0.09, "correlation": r, "r_squared": r**2}
    for name, truth in truths.items():
        covered = (result[f"{name}_low"] <= truth) & (truth <= result[f"{name}_high"])
        assert 0.92 <= float(covered.mean()) <= 0.98, name


def test_sqnr_db__duplicated_pixels_leave_the_interval_and_more_samples_shrink_it() -> None:
    y, e = planted(9, [0.1], [[0.0]], [0.1], samples=64, elements=8)
    once = sqnr_db(recorded_run(y, e))
    pixels = sqnr_db(recorded_run(np.tile(y, 4), np.tile(e, 4)))
    np.testing.assert_allclose(pixels.sqnr_db_standard_error, once.sqnr_db_standard_error, rtol=1e-9)
    np.testing.assert_allclose(pixels.sqnr_db_low, once.sqnr_db_low, rtol=1e-11)
    # 8 samples in 8 blocks against the same 8 eight times over in 64: half the standard error, by sqrt(7/63) = 1/3.
    few = sqnr_db(recorded_run(y[:, :8], e[:, :8]))
    many = sqnr_db(recorded_run(np.tile(y[:, :8], (1, 8, 1, 1)), np.tile(e[:, :8], (1, 8, 1, 1))))
    np.testing.assert_allclose(many.sqnr_db, few.sqnr_db, rtol=1e-12)
    np.testing.assert_allclose(many.sqnr_db_standard_error / few.sqnr_db_standard_error, 1 / 3, rtol=0.1)


def test_sqnr_db__says_why_an_interval_is_undefined() -> None:
    y, e = planted(10, [0.1] * 5, [[0.0]] * 5, [0.1] * 5, samples=12, elements=8)
    e[1] = 0  # no noise
    y[2] = 0  # no signal
    y[3] = e[3] = 0  # neither
    e[4, 1:] = 0  # noise in one block alone
    result = sqnr_db(recorded_run(y, e))
    assert result.sqnr_db[1] == np.inf
    assert result.sqnr_db[2] == -np.inf
    assert np.isnan(result.sqnr_db[3])
    assert np.isfinite(result.sqnr_db[4])
    reasons = [REASONS[code] for code in result.sqnr_db_reason.values]
    assert reasons == ["defined", *["estimate_not_finite"] * 3, "not_finite_without_a_block"]
    for name in ("low", "high", "standard_error"):
        assert list(np.isnan(result[f"sqnr_db_{name}"].values)) == [False, True, True, True, True]
    assert result.sqnr_db_reason.attrs["flag_meanings"].split() == list(REASONS)


def test_sqnr_db__of_one_sample_has_no_interval() -> None:
    result = sqnr_db(recorded_run(*planted(11, [0.1], [[0.0]], [0.1], samples=1)))
    assert np.isfinite(result.sqnr_db).all()
    assert np.isnan(result.sqnr_db_low).all()
    assert REASONS[int(result.sqnr_db_reason[0])] == "fewer_than_2_blocks"


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_jackknife__refuses_a_confidence_that_is_none(confidence: float) -> None:
    run = recorded_run(*planted(12, [0.1], [[0.0]], [0.1], samples=8))
    sums = block_sums(run.epsilon_injected, run.epsilon_count, ("channel",))
    with pytest.raises(BadInput, match="confidence"):
        jackknife(lambda pooled: pooled.mean_e, sums, confidence=confidence)
