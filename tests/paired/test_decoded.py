"""Claim: noise after decoding is that of the decoded final samples; a linear decoder maps the noise before it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from noise_models import decompose, mean_ratio_sqnr_db, sqnr_db
from samplers.ddim import DDIM
from samplers.errors import BadInput
from simulator import decoded
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.models.decoder import Decoder
from simulator.models.registry import Model
from simulator.moments import moment_names, row_moments
from simulator.paired import Arm, run, run_arms
from simulator.variables import BY_NAME

pytestmark = pytest.mark.usefixtures("one_thread")
SCALE, SHIFT, SAMPLES = 0.4, 0.3, 5
DECODED = {name for name in BY_NAME if name.startswith("decoded_")}


class Net(nn.Module):
    """Three convolutions on four channels: the middle one is no edge, so a scheme's bits reach it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 4, 1)
        self.middle = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.first(x) * (1 + 0.001 * timestep[:, None, None, None]))
        return self.last(torch.tanh(self.middle(h)))


class Curved(nn.Module):
    """A decoder that is not linear and doubles the sides."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.out = nn.ConvTranspose2d(4, 5, 2, stride=2), nn.Conv2d(5, 3, 3, padding=1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.out(torch.relu(self.up(z))))


def seeded(make) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make().eval().requires_grad_(False)


def mixing(weight: np.ndarray, bias: np.ndarray) -> nn.Conv2d:
    """Pixels = weight @ channels + bias."""
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1).requires_grad_(False)
    layer.weight.copy_(torch.from_numpy(weight)[:, :, None, None])
    layer.bias.copy_(torch.from_numpy(bias))
    return layer


def model_with(tiny_model: Model, decoder: Decoder | None) -> Model:
    return dataclasses.replace(tiny_model, module=seeded(Net), sample_shape=(4, 6, 6), decoder=decoder)


def run_with(tiny_model, decoder_module, *, scale=SCALE, shift=SHIFT, **options):
    decoder = None if decoder_module is None else Decoder(decoder_module, scale, shift, "d" * 64)
    model = model_with(tiny_model, decoder)
    sampler = DDIM(model.schedule, 3)
    network = QuantizedModel(model, Scheme.parse("w4a4"), calibrate_ranges(model, sampler, samples=4))
    return run(Arm(network), sampler, **{"samples": SAMPLES, "batch_size": 2, **options})


@pytest.fixture(scope="module")
def curved(tiny_model, one_thread):
    return run_with(tiny_model, seeded(Curved))


def test_decoded__moments_are_those_of_the_decoded_final_samples(curved):
    decoder = Decoder(seeded(Curved), SCALE, SHIFT, "")
    y, other = (
        decoder.decode(torch.from_numpy(curved[f"sample_{name}"].values)).numpy() for name in ("reference", "quantized")
    )
    assert y.shape == (SAMPLES, 3, 12, 12)
    rows = row_moments(y.reshape(SAMPLES * 3, -1), other.reshape(SAMPLES * 3, -1))
    want = np.concatenate([rows[:, 1:3], rows[:, 3:] / rows[:, :1]], axis=1).reshape(SAMPLES, 3, -1).transpose(1, 0, 2)
    assert np.array_equal(curved.decoded_sample_accumulated, want)
    assert np.array_equal(curved.decoded_accumulated, want)  # one sample per block
    assert np.all(curved.decoded_count == 144)
    assert np.array_equal(curved.decoded_reference, y)
    assert np.array_equal(curved.decoded_quantized, other)
    assert np.all(curved.decoded_accumulated.sel(moment="ee") > 0)


def test_decoded__variables_carry_dims_unit_and_definition(curved):
    assert {name for name in BY_NAME if name.startswith("decoded_")} <= set(curved.data_vars)
    for name in DECODED:
        assert curved[name].dims == BY_NAME[name].dims
        assert curved[name].attrs == BY_NAME[name].attrs
    assert "in float" in curved.decoded_accumulated.attrs["definition"]


def test_sqnr_db__of_the_decoded_is_that_of_the_pixels_and_not_of_the_latents(curved):
    y, other = (curved[f"decoded_{name}"].values.astype(np.float64) for name in ("reference", "quantized"))
    found = sqnr_db(curved, "decoded_accumulated")
    direct = 10 * np.log10((y**2).sum() / ((other - y) ** 2).sum())
    assert found.sqnr_db.dims == ()
    np.testing.assert_allclose(found.sqnr_db, direct, rtol=1e-12)
    assert found.sqnr_db_low < found.sqnr_db < found.sqnr_db_high
    assert abs(float(sqnr_db(curved, "state_accumulated").sqnr_db[-1]) - direct) > 1
    ratios = (y**2).sum((1, 2, 3)) / ((other - y) ** 2).sum((1, 2, 3))
    found = mean_ratio_sqnr_db(curved, "decoded_sample_accumulated").mean_ratio_sqnr_db
    np.testing.assert_allclose(found, 10 * np.log10(ratios.mean()), rtol=1e-12)
    assert decompose(curved, "decoded_accumulated").bias.dims == ("image_channel",)


# Closed forms


def test_linear_decoder__maps_each_moment_of_one_channel_by_powers_of_its_gain(tiny_model):
    gains, bias = np.array([2.0, -0.5, 3.0, 1.0], np.float32), np.array([0.1, 0.2, -4.0, 0.0], np.float32)
    got = run_with(tiny_model, mixing(np.diag(gains), bias))
    before, after = got.state_accumulated[-1], got.decoded_accumulated
    gain = gains[:, None] / SCALE
    for name in moment_names():
        want = {
            "mean_y": gain * before.sel(moment="mean_y") + (gains * SHIFT + bias)[:, None],
            "mean_e": gain * before.sel(moment="mean_e"),
        }.get(name, gain ** len(name) * before.sel(moment=name))
        # float32 rounds each pixel, whose size is at most about 30: errors of e near 2e-6
        size = gain ** (1 if "mean" in name else len(name))
        np.testing.assert_allclose(after.sel(moment=name), want, rtol=1e-3, atol=2e-5 * np.abs(size).max())


def test_linear_decoder__maps_the_noise_of_every_sample_by_its_matrix(tiny_model):
    weight = np.random.default_rng(4).standard_normal((3, 4)).astype(np.float32)
    got = run_with(tiny_model, mixing(weight, np.array([1.0, -2.0, 3.0], np.float32)))
    before = (got.sample_quantized - got.sample_reference).values.astype(np.float64)
    noise = np.einsum("oc,schw->sohw", weight / SCALE, before)  # the bias and the shift cancel
    found = got.decoded_accumulated.transpose("block", ...)
    np.testing.assert_allclose(found.sel(moment="mean_e"), noise.mean((2, 3)), atol=1e-5)
    np.testing.assert_allclose(found.sel(moment="ee"), noise.var((2, 3)), rtol=1e-4)


def test_orthonormal_decoder__leaves_the_sqnr_as_it_was(tiny_model):
    """A 2x2 Haar transform turns four channels into one image of twice the side and keeps every sum of squares."""
    haar = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], np.float32) / 2
    layer = nn.ConvTranspose2d(4, 1, 2, stride=2, bias=False).requires_grad_(False)
    layer.weight.copy_(torch.from_numpy(haar.reshape(4, 1, 2, 2)))
    got = run_with(tiny_model, layer, shift=0.0)
    before = sqnr_db(got, "state_accumulated").isel(step=-1)
    after = sqnr_db(got, "decoded_accumulated")
    for name in ("sqnr_db", "sqnr_db_low", "sqnr_db_high"):
        np.testing.assert_allclose(after[name], before[name], atol=1e-4)
    assert got.sizes["image_channel"] == 1
    assert got.sizes["image_row"] == 12


# What does not change


def test_decoder__leaves_everything_before_it_as_it_was(tiny_model, curved):
    plain = run_with(tiny_model, None)
    assert not DECODED & set(plain.data_vars)
    for name in plain.data_vars:
        assert plain[name].values.tobytes() == curved[name].values.tobytes(), name
    config = json.loads(plain.attrs["config"])
    assert "decoder" not in config
    assert "decoder" not in config["ranges"]


def test_decoder__is_part_of_the_key(tiny_model, curved):
    assert json.loads(curved.attrs["config"])["decoder"] == {"digest": "d" * 64, "scale": SCALE, "shift": SHIFT}
    for change in ({"scale": 0.5}, {"shift": 0.0}):
        assert run_with(tiny_model, seeded(Curved), **change).attrs["key"] != curved.attrs["key"]


def test_decoder__is_no_site_and_stays_in_float(tiny_model, curved):
    assert curved.site.values.tolist() == run_with(tiny_model, None).site.values.tolist()


def test_decoded__do_not_depend_on_the_batch(tiny_model, curved):
    other = run_with(tiny_model, seeded(Curved), batch_size=SAMPLES)
    np.testing.assert_allclose(other.decoded_accumulated, curved.decoded_accumulated, rtol=1e-3, atol=1e-5)
    assert other.sizes["image"] == SAMPLES


def test_run__without_accumulated_noise_decodes_nothing(tiny_model):
    def fail(z):
        raise AssertionError("decoded")

    module = seeded(Curved)
    module.register_forward_pre_hook(lambda *_: fail(None))
    assert not DECODED & set(run_with(tiny_model, module, kinds=("injected",)).data_vars)


def test_run_arms__decode_the_reference_once_for_all_arms(tiny_model):
    module, calls = seeded(Curved), []
    module.register_forward_pre_hook(lambda *_: calls.append(1))
    model = model_with(tiny_model, Decoder(module, SCALE, SHIFT, ""))
    sampler = DDIM(model.schedule, 2)
    ranges = calibrate_ranges(model, sampler, samples=4)
    arms = [Arm(QuantizedModel(model, Scheme.parse(s), ranges)) for s in ("w4a4", "w8a8")]
    alone = run(arms[1], sampler, samples=3)
    calls.clear()
    both = run_arms(arms, sampler, samples=3)
    assert len(calls) == 3 * (1 + 2)
    assert np.array_equal(both[1].decoded_accumulated, alone.decoded_accumulated)
    coarse, fine = (float(sqnr_db(run, "decoded_accumulated").sqnr_db) for run in both)
    assert fine > coarse + 5


def test_run_arms__refuses_arms_with_different_decoders(tiny_model):
    model = model_with(tiny_model, None)
    sampler = DDIM(model.schedule, 2)
    ranges = calibrate_ranges(model, sampler, samples=4)
    decoder = Decoder(seeded(Curved), SCALE, SHIFT, "")
    models = (model, dataclasses.replace(model, decoder=decoder))
    arms = [Arm(QuantizedModel(each, Scheme.parse("w4a4"), ranges)) for each in models]
    with pytest.raises(BadInput, match="2 models"):
        run_arms(arms, sampler, samples=2)


@pytest.mark.parametrize(("most", "shown"), [(1, 1), (2 * 3 * 144, 2), (2 * 3 * 144 + 431, 2), (10**9, SAMPLES)])
def test_decoded__images_kept_are_bounded_by_their_elements(tiny_model, monkeypatch, most, shown, curved):
    monkeypatch.setattr(decoded, "SHOWN_ELEMENTS", most)
    got = run_with(tiny_model, seeded(Curved))
    assert got.sizes["image"] == shown
    assert got.sizes["shown"] == SAMPLES
    assert np.array_equal(got.decoded_reference, curved.decoded_reference[:shown])
    assert np.array_equal(got.decoded_accumulated, curved.decoded_accumulated)
