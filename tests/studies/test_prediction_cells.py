"""Claim: a cell takes as many samples as its certainty needs, goes on from what it has to the same numbers, and judges
predictors that were made on few samples by what they change on these.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import xarray as xr

from samplers import DDIM, NoiseSchedule
from simulator import Scheme
from studies.prediction import certainty
from studies.prediction.cells import NAIVE, PREDICTORS, Effort, predict_cell
from studies.prediction.certainty import NONE, change_db, ratio_db, until_certain
from studies.prediction.summary import padded, summarise

SMALL = Effort(
    standard_error=1e-9, most_samples=64, prediction_standard_error=1e-9, most_prediction_samples=64, other_samples=64,
    calibration_samples=16, batch_size=32,
)  # fmt: skip


def drawn(seed: int, samples: int, spread: float) -> np.ndarray:
    """Powers of 20 dB whose error power varies by ``spread``."""
    generator = np.random.default_rng(seed)
    return np.stack([np.ones(samples), 0.01 * np.exp(spread * generator.standard_normal(samples))])


def test_until_certain__adds_only_to_what_is_uncertain_and_stops_at_the_most() -> None:
    asked = []

    def draw(of, samples, chunk):
        asked.append((tuple(of), samples, chunk))
        return [drawn(chunk, samples, (0.01, 3.0)[i]) for i in of]

    found = until_certain([NONE, NONE], draw, standard_error=0.05, most_samples=3000)
    assert asked == [((0, 1), 1024, 0), ((1,), 1024, 1), ((1,), 1024, 2)]
    assert [powers.shape[1] for powers in found] == [1024, 3072]
    assert ratio_db(found[0]).standard_error < 0.05 < ratio_db(found[1]).standard_error


def test_until_certain__goes_on_with_the_scheme_that_has_the_fewest_samples() -> None:
    asked = []

    def draw(of, samples, chunk):
        asked.append((tuple(of), chunk))
        return [drawn(chunk, samples, 3.0) for _ in of]

    have = [drawn(0, 1024, 3.0), drawn(0, 2048, 3.0)]
    found = until_certain(have, draw, standard_error=0.01, most_samples=3072)
    assert asked == [((0,), 1), ((0, 1), 2)]
    assert [powers.shape[1] for powers in found] == [3072, 3072]
    np.testing.assert_array_equal(found[1][:, :2048], have[1])


def test_ratio__is_the_ratio_of_sums_with_the_error_of_its_mean() -> None:
    powers = drawn(3, 4096, 0.8)
    found = ratio_db(powers)
    assert found.estimate == pytest.approx(10 * math.log10(powers[0].sum() / powers[1].sum()))
    expected = 10 / math.log(10) * powers[1].std() / powers[1].mean() / 64
    assert found.standard_error == pytest.approx(expected, rel=0.25)  # 64 blocks know a deviation to 9 %


def test_change__is_sharper_than_the_difference_of_two_ratios() -> None:
    one = drawn(4, 1024, 1.0)
    other = one * np.array([[1.0], [1.3]]) * np.array([np.ones(1024), 1 + 0.01 * drawn(5, 1024, 1.0)[1]])
    found = change_db(other, one)
    assert found.estimate == pytest.approx(float(ratio_db(other).estimate - ratio_db(one).estimate))
    assert found.standard_error < 0.05 * ratio_db(one).standard_error


def cell_of(first: np.ndarray, few: np.ndarray) -> xr.Dataset:
    """A cell of one scheme."""
    rows = padded([first, *([few] * (len(PREDICTORS) - 1))])
    data = {
        "measured_power": (("scheme", "term", "measured_sample"), padded([first])),
        "predicted_power": (("predictor", "scheme", "term", "predicted_sample"), rows[:, None]),
        "naive_sqnr_db": (("naive", "scheme"), [[40.0], [-3.0]]),
    }
    coords = {
        "scheme": ["w8a8"], "predictor": [one.name for one in PREDICTORS], "naive": list(NAIVE),
        "term": ["reference", "error"], "model": "m", "sampler": "s", "steps": 1,
    }  # fmt: skip
    return xr.Dataset(data, coords)


def test_summary__judges_a_predictor_by_its_change_on_the_few_samples() -> None:
    first = drawn(6, 2048, 1.5)
    few = first[:, :128] * np.array([[1.0], [2.0]])
    found = summarise(cell_of(first, few))
    values = found.predicted_sqnr_db.values[:, 0]
    own = float(ratio_db(few).estimate)
    assert abs(own - (values[0] - 10 * math.log10(2))) > 0.2  # the few alone are off by their draw
    np.testing.assert_allclose(values[1:5], values[0] - 10 * math.log10(2))
    np.testing.assert_array_equal(values[5:], [40.0, -3.0])
    assert np.isnan(found.predicted_sqnr_db_standard_error.values[5:]).all()
    assert found.prediction_samples.item() == found.measured_samples.item() == 2048
    assert list(found.predictor.values) == [*(one.name for one in PREDICTORS), *NAIVE]


def test_cell__gone_on_with_has_what_it_had_and_more(tiny_model, one_thread, monkeypatch) -> None:
    monkeypatch.setattr(certainty, "CHUNK", 64)
    sampler, schemes = DDIM(NoiseSchedule(), 2), [Scheme.parse("w8a8"), Scheme.parse("w4a8")]
    less = predict_cell(tiny_model, sampler, schemes, SMALL)
    more = dataclasses.replace(SMALL, most_samples=128)
    grown = predict_cell(tiny_model, sampler, schemes, more, have=less)
    whole = predict_cell(tiny_model, sampler, schemes, more)
    xr.testing.assert_identical(grown, whole)
    np.testing.assert_array_equal(grown.measured_power[:, :, :64], less.measured_power)
    assert grown.sizes["measured_sample"] == 128
    assert predict_cell(tiny_model, sampler, schemes, SMALL, have=grown) is grown


def test_cell__measures_other_samples_than_it_predicts_on(tiny_model, one_thread) -> None:
    cell = predict_cell(tiny_model, DDIM(NoiseSchedule(), 2), [Scheme.parse("w8a8")], SMALL)
    shared = np.isin(cell.measured_power.sel(term="reference"), cell.predicted_power.sel(term="reference"))
    assert not shared.any()
    few = cell.predicted_power.sel(term="reference").values
    np.testing.assert_allclose(few, np.broadcast_to(few[:1], few.shape))  # all predictors have the same samples
