"""Claim: noise of a contraction follows from ranges and bits where operand errors are uniform and independent; where it
does not, the comparison says which assumption failed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch_modules import as_model

import simulator
from noise_models.theory.layer_comparison import CAUSES, VERDICTS, compare_layers, shares_within
from noise_models.theory.layers import PARTS, PREDICTORS, REASONS, contraction_noise, predict_layers
from samplers import DDIM, BadInput
from simulator.instrument.rungs import Rung
from simulator.operand_errors import observe_operands
from simulator.operand_variables import OPERANDS

pytestmark = pytest.mark.usefixtures("one_thread")
SAMPLES = 48


@pytest.mark.parametrize(("left_bits", "right_bits"), [(8, 8), (6, 6), (8, 4), (4, 4)])
def test_contraction_noise__is_that_of_independent_operands_within_5_standard_errors(left_bits, right_bits) -> None:
    rng, taps, count = np.random.default_rng(left_bits + right_bits), 24, 20_000
    steps = [2.0 / (2**bits - 1) for bits in (left_bits, right_bits)]
    a, b = (rng.uniform(-1, 1, (count, taps)) for _ in range(2))
    rounded = [np.round(x / step) * step for x, step in zip((a, b), steps, strict=True)]
    e = (rounded[0] * rounded[1]).sum(1) - (a * b).sum(1)
    predicted = contraction_noise(taps, left_step=steps[0], left_power=1 / 3, right_step=steps[1], right_power=1 / 3)
    # each error is correlated with its operand by -step^2 / 12, which adds terms of the size of the last one
    slack = 4 * taps * (steps[0] * steps[1] / 12) ** 2
    assert abs((e**2).mean() - predicted) < 5 * (e**2).std() / count**0.5 + slack


def synthetic(**values: float) -> xr.Dataset:
    """Observed operands of two steps and three sites, all alike."""
    sizes = {"step": 2, "site": 3, "operand": 2}
    own = {
        "site_signal_power": 8.0, "operand_step_gain": [[[0.24, 0.12]]], "operand_clip_gain": [[[0.01, 0.0]]],
        "operand_error_gain": 0.02, "operand_rest_gain": 0.015, "site_step_product": 0.144, "site_error_product": 0.001,
        "site_rest_product": 0.0005, "site_line_power": 0.03, "site_drawn_noise": 0.07, "operand_clipped_share": 0.01,
        "operand_intervals": [[[255, 14]]], "site_covered": 0, **values,
    }  # fmt: skip
    data = {
        v.name: (v.dims, np.broadcast_to(np.asarray(own[v.name], float), [sizes[d] for d in v.dims]).copy())
        for v in OPERANDS
    }
    return xr.Dataset(data, coords={"site": ["a", "b", "c"], "operand": ["left", "right"]})


def test_predict_layers__adds_the_parts_of_every_predictor() -> None:
    found = predict_layers(synthetic())
    expected = {
        "uniform": 0.02 + 0.01 + 0.001 + 0.01,
        "steps": 0.031,
        "operands": 0.041,
        "lines": 0.0605,
        "weights": 0.07,
    }
    assert found.predictor.values.tolist() == list(PREDICTORS) == list(expected)
    for name, power in expected.items():
        np.testing.assert_allclose(found.noise_power.sel(predictor=name), power)
        np.testing.assert_allclose(found.sqnr_db.sel(predictor=name), 10 * np.log10(8 / power))
    np.testing.assert_allclose(found.noise_part[:, 0, 0], [0.02, 0.01, 0.001, 0.01])
    assert found.part.values.tolist() == list(PARTS)
    assert (found.reason == 0).all()


def test_predict_layers__at_other_bits_scales_steps_by_the_ratio_of_intervals() -> None:
    bits = xr.DataArray([[4, 8], [8, 4], [8, 4]], dims=("site", "operand"), coords={"operand": ["left", "right"]})
    found = predict_layers(synthetic(), bits=bits).noise_part
    left, right = (255 / 15) ** 2, (14 / 254) ** 2  # an even number of intervals is a narrow signed format's
    np.testing.assert_allclose(found[:, 0, 0], [0.02 * left, 0.01 * right, 0.001 * left * right, 0.01])
    np.testing.assert_allclose(found[:, 0, 1], [0.02, 0.01, 0.001, 0.01])
    assert predict_layers(synthetic(), bits=bits).predictor.values.tolist() == ["uniform", "steps"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"site_covered": 1}, "in_float"),
        ({"site_covered": 2}, "other_arithmetic"),
        ({"site_signal_power": 0.0}, "no_signal"),
        ({"operand_step_gain": 0.0, "site_step_product": 0.0, "operand_clip_gain": 0.0}, "no_noise"),
        ({"operand_clipped_share": [[[1.0, 0.0]]]}, "all_clipped"),
    ],
)
def test_predict_layers__is_nan_with_its_reason(values, reason) -> None:
    found = predict_layers(synthetic(**values))
    assert (found.reason == REASONS.index(reason)).all()
    assert found.sqnr_db.isnull().all()
    assert found.reason.attrs["flag_meanings"].split() == list(REASONS)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: predict_layers(synthetic().drop_vars("site_line_power")), "site_line_power"),
        (lambda: predict_layers(synthetic(), bits=xr.DataArray(0)), "bits"),
        (lambda: predict_layers(synthetic(), bits=xr.DataArray(17)), "bits"),
        (lambda: predict_layers(synthetic(), bits=xr.DataArray(4.0)), "bits"),
        (lambda: predict_layers(synthetic(), bits=xr.DataArray(1)), "at least 2 bits"),
        (lambda: contraction_noise(0, left_step=1, left_power=1, right_step=1, right_power=1), "taps"),
        (lambda: contraction_noise(1, left_step=-1, left_power=1, right_step=1, right_power=1), "left_step"),
    ],
)
def test_layers__refuse_bad_input(call, says) -> None:
    with pytest.raises(BadInput, match=says):
        call()


class Independent(nn.Module):
    """Layers whose inputs are as good as independent: what the uniform model assumes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 1)
        self.wide, self.last = nn.Linear(64, 64, bias=False), nn.Linear(64, 64)

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        spread = self.first(x)[:, :1].flatten(1) * 3
        return self.last(self.wide(spread).clamp(-20, 20)).reshape(x.shape)


@pytest.fixture(scope="module")
def system():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = as_model(Independent(), (1, 8, 8))
    sampler = DDIM(model.schedule, 2)
    return model, sampler, simulator.calibrate_ranges(model, sampler, samples=256)


def both(system, scheme: str):
    model, sampler, ranges = system
    quantized = simulator.QuantizedModel(model, simulator.Scheme.parse(scheme), ranges)
    observed = observe_operands(quantized, sampler, samples=SAMPLES)
    measured = simulator.attribute(quantized, sampler, rungs=(Rung.COMPLETE,), samples=SAMPLES)
    return observed, measured


@pytest.fixture(scope="module")
def w8a8(system):
    return both(system, "w8a8")


@pytest.mark.parametrize("scheme", ["w8a8", "w6a6", "w4a8", "w4a4"])
def test_compare_layers__finds_the_uniform_model_right_where_its_assumptions_hold(system, scheme) -> None:
    observed, measured = both(system, scheme)
    compared = compare_layers(predict_layers(observed), measured)
    at = compared.sel(site="wide:linear", predictor="uniform")
    assert abs(float(at.site_error_db)) < 0.3  # 64 weights per row, 64 rows
    assert (abs(at.error_db) < 0.5).all()
    assert CAUSES[int(at.site_cause)] == "none"
    assert VERDICTS[int(at.site_verdict)] == "within"
    assert (at.site_measured_sqnr_db_low < at.site_measured_sqnr_db).all()


def test_predict_layers__at_other_bits_is_the_prediction_of_that_scheme(system, w8a8) -> None:
    observed, _ = w8a8
    narrow, _ = both(system, "w4a4")
    bits = xr.DataArray(4)
    found, expected = predict_layers(observed, bits=bits), predict_layers(narrow)
    inner = {"site": "wide:linear", "predictor": "steps"}
    np.testing.assert_allclose(found.noise_power.sel(inner), expected.noise_power.sel(inner), rtol=1e-5)


def changed(compared_with: xr.Dataset, **powers: float) -> xr.Dataset:
    """A prediction whose predictors are off by these factors from what was measured."""
    measured = compared_with
    power = (measured.site_local.sel(moment="ee") + measured.site_local.sel(moment="mean_e") ** 2).mean("block")
    signal = (measured.site_local.sel(moment="yy") + measured.site_local.sel(moment="mean_y") ** 2).mean("block")
    noise = xr.concat([power * powers.get(name, 4.0) for name in PREDICTORS], "predictor")
    noise = noise.assign_coords(predictor=list(PREDICTORS))
    zero = xr.zeros_like(signal)
    share = xr.concat([zero, zero], "operand")
    config = {**json.loads(measured.attrs["config"]), "purpose": "observe"}
    data = {
        "noise_power": noise, "sqnr_db": 10 * np.log10(signal / noise), "site_signal_power": signal,
        "operand_clipped_share": share, "reason": zero.astype(np.int8),
    }  # fmt: skip
    return xr.Dataset(data, attrs={"config": json.dumps(config)}).drop_vars("moment", errors="ignore")


@pytest.mark.parametrize(
    ("powers", "cause"),
    [
        ({"uniform": 1.2}, "none"),
        ({"steps": 1.1, "weights": 1.0}, "clipping"),
        ({"operands": 1.1, "lines": 1.0, "weights": 1.0}, "error_not_uniform"),
        ({"lines": 1.0, "weights": 1.0}, "error_follows_operand"),
        ({"weights": 0.9}, "weights_are_one_draw"),
        ({}, "errors_correlate"),
    ],
)
def test_compare_layers__names_the_first_assumption_whose_repair_is_right(w8a8, powers, cause) -> None:
    _, measured = w8a8
    measured = measured.assign(site_local_clipped=xr.zeros_like(measured.site_local_clipped))
    compared = compare_layers(changed(measured, **powers), measured)
    assert {CAUSES[code] for code in compared.site_cause.values} == {cause}
    assert {CAUSES[code] for code in compared.cause.values.ravel()} == {cause}
    expected = -10 * np.log10(powers.get("uniform", 4.0))
    np.testing.assert_allclose(compared.site_error_db.sel(predictor="uniform"), expected, atol=1e-9)


def test_compare_layers__blames_clipping_that_only_the_judged_samples_have(w8a8) -> None:
    _, measured = w8a8
    clipping = measured.assign(site_local_clipped=xr.ones_like(measured.site_local_clipped))
    for factor, cause in ((0.25, "clipping"), (4.0, "errors_correlate")):
        compared = compare_layers(changed(measured, **dict.fromkeys(PREDICTORS, factor)), clipping)
        assert {CAUSES[code] for code in compared.site_cause.values} == {cause}


def test_compare_layers__verdict_follows_from_the_measured_interval(w8a8) -> None:
    _, measured = w8a8
    exact = changed(measured, uniform=1.0)
    assert {VERDICTS[v] for v in compare_layers(exact, measured, tolerance=20.0).site_verdict.values} == {"within"}
    assert {VERDICTS[v] for v in compare_layers(exact, measured, tolerance=1e-9).site_verdict.values} == {
        "inconclusive"
    }
    far = changed(measured, uniform=100.0)
    assert {VERDICTS[v] for v in compare_layers(far, measured).site_verdict.values} == {"outside"}


def test_compare_layers__of_sites_without_a_prediction_is_undefined(w8a8) -> None:
    observed, measured = w8a8
    blind = observed.copy(deep=True)
    blind["site_covered"][:, 1] = 2
    compared = compare_layers(predict_layers(blind), measured)
    assert CAUSES[int(compared.site_cause[1])] == "undefined"
    assert compared.site_error_db.sel(predictor="uniform").isnull().values.tolist() == [False, True, False]
    shares = shares_within(compared)
    assert shares.sites_defined.values.tolist() == [2] * len(PREDICTORS)


def test_shares_within__counts_what_is_off_by_at_most_each_limit(w8a8) -> None:
    _, measured = w8a8
    compared = compare_layers(changed(measured, uniform=10**0.2, steps=10**0.05), measured)
    shares = shares_within(compared, (1.0, 3.0))
    assert shares.cells.sel(predictor="uniform").values.tolist() == [0, 1]
    assert shares.sites.sel(predictor="steps").values.tolist() == [1, 1]
    assert shares.sites.sel(predictor="lines").values.tolist() == [0, 0]
    assert int(shares.cells_defined[0]) == 6


def test_compare_layers__refuses_other_systems_and_shared_samples(system, w8a8) -> None:
    observed, measured = w8a8
    predicted = predict_layers(observed)

    def with_config(**fields) -> xr.Dataset:
        return predicted.assign_attrs(config=json.dumps({**json.loads(predicted.attrs["config"]), **fields}))

    for other, says in (
        (with_config(scheme="w4a4"), "scheme"),
        (with_config(sampler={"name": "ddpm"}), "sampler"),
        (with_config(purpose="evaluate"), "other samples"),
        (predicted.isel(step=slice(1)), "same sites and steps"),
        (predict_layers(observed, bits=xr.DataArray(4)), "all predictors"),
    ):
        with pytest.raises(BadInput, match=says):
            compare_layers(other, measured)
    with pytest.raises(BadInput, match="local noise"):
        compare_layers(predicted, measured.drop_vars("site_local"))
    with pytest.raises(BadInput, match="tolerance"):
        compare_layers(predicted, measured, tolerance=0.0)
