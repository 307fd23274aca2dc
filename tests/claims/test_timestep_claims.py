"""Claim: what claims about timesteps compute of their measurements is what their endpoints say."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.calibration.intervals.observation import OperandSamples
from simulator.instrument.sites import SiteKey
from studies.claims.claim import Setting
from studies.claims.known.active_beats_random import active
from studies.claims.known.direct_time_is_flat import median_span
from studies.claims.known.intervals_follow_activations import spread
from studies.claims.known.middle_block_follows_less import placed
from studies.claims.known.noise_hinders_convergence import CLAIM as NOISE_HINDERS
from studies.claims.known.noise_hinders_convergence import settings_of
from studies.claims.timesteps import fit_of


def test_placed__counts_among_what_does_not_follow() -> None:
    inside = np.array([True, True, False, False, False])
    found = placed(np.array([0.2, 0.6, 0.4, 0.5, 0.9]), inside)
    assert found["gap"] == pytest.approx(0.4 - 0.6)
    # of three that do not follow one is inside; of two inside one does not follow
    assert found["place"] == pytest.approx(1 / 3)
    assert np.isnan(placed(np.full(5, 0.9), inside)["place"])


def test_median_span__leaves_out_what_was_not_learned() -> None:
    scales = np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0], [1.0, 1.5, 2.0]])
    assert median_span(scales, np.array([False, True, True])) == pytest.approx((1.0 + 2 / 3) / 2)
    assert np.isnan(median_span(scales, np.array([False, True, False])))


def test_spread__is_of_the_operand_and_not_of_the_kept_elements() -> None:
    """Of 1000 sorted normals the ends are kept one by one, the others by one in ten, as ``sample_operands`` does."""
    operand = np.sort(np.random.default_rng(0).standard_normal((2, 1000)), axis=1) * [[1.0], [3.0]]
    places = np.concatenate([np.arange(20), np.arange(24, 980, 10), np.arange(980, 1000)])
    weight = np.where((places < 20) | (places >= 980), 1.0, 10.0)
    weight = np.tile(weight / weight.mean(), (2, 1)).astype(np.float32)
    key = SiteKey("layer", "linear"), "input"
    kept = operand[:, places].astype(np.float32)
    samples = OperandSamples(np.array([0.0, 1.0]), {key: kept}, {}, {key: weight})
    np.testing.assert_allclose(spread(samples)[0], operand.std(axis=1), rtol=0.01)
    assert (kept.std(axis=1) > 1.2 * operand.std(axis=1)).all()


def test_settings__train_by_the_full_preset_where_the_claim_is_full() -> None:
    assert [settings_of(setting).preset for setting in NOISE_HINDERS.settings] == ["full"]
    assert NOISE_HINDERS.trains


def test_fit__is_the_recipes_in_a_full_setting_and_short_in_a_small_one() -> None:
    assert fit_of(Setting("digits-unet")).iterations == 400
    assert fit_of(Setting("digits-unet", steps=4)).iterations < 100


@pytest.mark.slow
def test_active__leaves_out_the_released_share_of_steps(one_thread) -> None:
    found = active(Setting("digits-unet", calibration_samples=4, steps=10, batch_size=4), 0, lambda *_: None)
    assert found.skip == 3
    assert len(found.entropies) == 10
