"""Claim: a paired run records what direct evaluation gives: shared noise, two kinds of error, blocks, provenance."""

from __future__ import annotations

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from samplers.ddim import DDIM
from samplers.ddpm import DDPM
from samplers.errors import BadInput
from samplers.fixed_point import FixedPointState
from samplers.loop import sample
from samplers.noise import NoiseStream
from samplers.state import FLOAT64, BFloat16State, Float16State, Float32State
from simulator.attribution import attribute
from simulator.calibration.observers import MinMax
from simulator.calibration.trajectory import calibrate_ranges
from simulator.calibration.weights import weight_ranges
from simulator.correction import NoCorrection
from simulator.instrument.forward import forward
from simulator.instrument.machines.machine import Emulated
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Rule, Scheme, Settings
from simulator.instrument.survey import survey
from simulator.moments import moment_names, row_moments
from simulator.paired import Arm, run, run_arms
from simulator.provenance import canonical, run_key
from simulator.variables import ATTRIBUTION, BY_NAME, ONE_STEP, OPERANDS, PREDICTED, VARIABLES

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 4
ERRORS = [name for name in moment_names() if "e" in name.removeprefix("mean_")]


def samplers_of(model):
    return {
        "ddim": DDIM(model.schedule, STEPS),
        "ddim-eta": DDIM(model.schedule, STEPS, eta=0.7),
        "ddpm": DDPM(model.schedule, STEPS),
    }


@pytest.fixture(params=["ddim", "ddim-eta", "ddpm"])
def sampler(request, tiny_model):
    return samplers_of(tiny_model)[request.param]


@pytest.fixture(scope="module")
def ranges(tiny_model):
    return calibrate_ranges(tiny_model, DDIM(tiny_model.schedule, STEPS), samples=4)


@pytest.fixture(scope="module")
def quantized(tiny_model, ranges):
    return QuantizedModel(tiny_model, Scheme.parse("w4a6"), ranges)


@pytest.fixture(scope="module")
def dataset(tiny_model, quantized):
    return run(Arm(quantized), DDIM(tiny_model.schedule, STEPS), samples=5, seed=3, batch_size=4)


class Float:
    """Quacks like a QuantizedModel, computes in float: an arm without any noise."""

    def __init__(self, quantized: QuantizedModel, change=lambda output: output, prediction_type="epsilon") -> None:
        self.model = dataclasses.replace(quantized.model, prediction_type=prediction_type)
        self.scheme, self.ranges, self.sites = quantized.scheme, quantized.ranges, quantized.sites
        self.allow_float, self.rung, self.plan = quantized.allow_float, quantized.rung, quantized.plan
        self._change, self.conditioning = change, quantized.conditioning

    def __call__(self, x, timestep, watch=None, *, step=None, audit=True, call=None):
        def handle(site, contraction):
            output = contraction.float()
            if watch is not None:
                watch(site, Emulated(output))
            return output

        return self._change(forward(self.model.module, handle, x, timestep, audit=audit, call=call))


class Halving(NoCorrection):
    """A correction that changes both epsilon and the update, to see that both are used."""

    name = "halving"

    def config(self):
        return {"name": self.name, "factor": 0.5}

    def epsilon(self, step, epsilon, members):
        return epsilon * 0.5 + step

    def update(self, step, update):
        return dataclasses.replace(update, x0_coefficient=update.x0_coefficient * 0.9)


def keep_float(site, contraction):
    return contraction.float()


def reference_of(model, sampler, samples, seed, batch_size, denoiser=None):
    """(x_t, output, x_{t-1}) of every step from the sampling loop itself, the batches put together."""
    parts, denoiser = [], denoiser or (lambda x, t: forward(model.module, keep_float, x, t))
    for first in range(0, samples, batch_size):
        steps = []
        with torch.no_grad():
            sample(
                denoiser, sampler, NoiseStream(seed, "evaluate"),
                range(first, min(first + batch_size, samples)), model.sample_shape,
                callback=lambda step, t, x, output, x_next, steps=steps: steps.append((x, output, x_next)),
            )  # fmt: skip
        parts.append(steps)
    return [tuple(torch.cat(tensors) for tensors in zip(*same, strict=True)) for same in zip(*parts, strict=True)]


def stored(y: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    """The 14 stored moments per row."""
    rows = row_moments(y.reshape(len(y), -1).numpy(), other.reshape(len(y), -1).numpy())
    return np.concatenate([rows[:, 1:3], rows[:, 3:] / rows[:, :1]], axis=1)


def equal(left, right) -> None:
    """Same variables and bytes."""
    assert set(left.data_vars) == set(right.data_vars)
    for name in left.data_vars:
        assert left[name].dtype == right[name].dtype
        assert left[name].values.tobytes() == right[name].values.tobytes(), name


# Labels


def test_datasets__declare_each_variable_with_its_dims_unit_and_definition(dataset, tiny_model, sampler):
    ranges = calibrate_ranges(tiny_model, sampler, samples=2, outputs=True)
    ranges = ranges.with_weights(weight_ranges(tiny_model, Scheme.parse("w4a6o8-acc16"), MinMax()))
    lossy = QuantizedModel(tiny_model, Scheme.parse("w4a6o8-acc16"), ranges)
    rule = Rule(("@qk",), Settings(activation_bits=5), (1, 3))
    stepped = QuantizedModel(tiny_model, Scheme(Settings(weight_bits=4), (rule,)), ranges)
    others = [run(Arm(network), sampler, samples=2, subsample=2) for network in (lossy, stepped)]
    clipping = dataclasses.replace(sampler, clip_sample=True, clip_sample_range=0.5)
    others.append(
        run(Arm(QuantizedModel(tiny_model, Scheme.parse("w8a8"), calibrate_ranges(tiny_model, clipping))), clipping)
    )
    assert (others[2].x0_clipped_reference > 0).any()
    others.append(run(Arm(lossy, state=FixedPointState()), sampler, samples=2))
    here = {name for made in (dataset, *others) for name in made.data_vars}
    assert here == {variable.name for variable in VARIABLES if not variable.name.startswith("decoded_")}
    lost = ("site_overflowed_injected", "site_saturated_injected", "site_overflowed_accumulated")
    assert all(others[0][name].sum() > 0 for name in lost)
    bits = others[1].site_step_activation_bits.sel(site="qk")
    assert bits.values.tolist() == [8, 5, 5, 8]
    named = [(name, array) for made in (dataset, *others) for name, array in made.data_vars.items()]
    for name, array in named:
        variable = BY_NAME[name]
        assert array.dims == variable.dims
        assert array.attrs == {
            "units": variable.unit,
            "long_name": variable.long_name,
            "definition": variable.definition,
        }
        assert all(array.attrs.values())
        assert array.dtype in (np.float64, np.float32, np.int64)


def test_variables__have_one_name_each():
    assert len(BY_NAME) == sum(map(len, (VARIABLES, ATTRIBUTION, OPERANDS, PREDICTED, ONE_STEP)))


def test_dataset__has_the_documented_sizes(dataset, tiny_model):
    assert dict(dataset.sizes) == {
        "step": STEPS, "site": 9, "channel": 1, "block": 5, "sample": 5, "moment": 14, "shown": 5,
        "row": 8, "column": 8,
    }  # fmt: skip
    assert dataset.moment.values.tolist() == list(moment_names())
    assert dataset.site.values.tolist() == [str(facts.key) for facts in survey(tiny_model)]


def test_dataset__names_model_scheme_sampler_and_seed(dataset):
    want = {"model": "tiny@1", "scheme": "w4a6", "correction": "none", "target": "int32-float32", "sampler": "ddim"}
    assert {name: dataset[name].item() for name in want} == want
    assert dataset.eta.item() == 0
    assert dataset.seed.item() == 3


def test_dataset__states_bits_and_costs_of_each_site(dataset, tiny_model):
    sites = survey(tiny_model)
    assert dataset.site_macs.values.tolist() == [facts.macs for facts in sites]
    assert dataset.site_activation_bits.values.tolist() == [8 if facts.edge else 6 for facts in sites]
    weight = [0 if facts.weight_shape is None else 8 if facts.edge else 4 for facts in sites]
    assert dataset.site_weight_bits.values.tolist() == weight


def test_dataset__states_the_updates_of_the_sampler(dataset, tiny_model):
    updates = DDIM(tiny_model.schedule, STEPS).updates
    for name in ("timestep", "alpha_cumprod", "alpha_cumprod_previous", "a", "b", "c"):
        assert dataset[name].values.tolist() == [getattr(update, name) for update in updates]
    for name in "abc":
        assert np.array_equal(dataset[name], dataset[f"{name}_used"])


def test_dataset__can_be_written_to_netcdf(dataset, tmp_path):
    import xarray as xr

    dataset.to_netcdf(tmp_path / "run.nc")
    with xr.open_dataset(tmp_path / "run.nc") as again:
        assert again.attrs["key"] == dataset.attrs["key"]
        equal(again.load(), dataset)


# What is recorded


def test_injected__equals_the_quantized_network_at_the_references_own_x(quantized, tiny_model, sampler):
    got = run(Arm(quantized), sampler, samples=5, seed=3, batch_size=4)
    for step, (x, output, _) in enumerate(reference_of(tiny_model, sampler, 5, 3, 4)):
        for members in (slice(0, 4), slice(4, 5)):
            timestep = torch.full((len(x[members]),), sampler.updates[step].timestep)
            direct = quantized(x[members].float(), timestep).double()
            assert np.array_equal(got.epsilon_sample_injected[step, 0, members], stored(output[members], direct))
    assert np.all(got.epsilon_injected.sel(moment="ee") > 0)


def test_accumulated__equals_each_network_on_its_own_trajectory_with_shared_noise(quantized, tiny_model, sampler):
    got = run(Arm(quantized), sampler, samples=5, seed=3, batch_size=4)
    full = reference_of(tiny_model, sampler, 5, 3, 4)
    own = reference_of(tiny_model, sampler, 5, 3, 4, denoiser=quantized)
    assert torch.equal(full[0][0], own[0][0])
    for step, ((_, output, x_next), (_, own_output, own_next)) in enumerate(zip(full, own, strict=True)):
        assert np.array_equal(got.epsilon_sample_accumulated[step, 0], stored(output, own_output))
        assert np.array_equal(got.state_accumulated[step, 0], stored(x_next, own_next))
    assert np.array_equal(got.sample_reference, full[-1][2].float())
    assert np.array_equal(got.sample_quantized, own[-1][2].float())


def test_first_step__has_the_same_injected_and_accumulated_noise(dataset):
    assert np.array_equal(dataset.epsilon_injected[0], dataset.epsilon_accumulated[0])
    assert np.array_equal(dataset.site_injected[0], dataset.site_accumulated[0])
    assert not np.array_equal(dataset.epsilon_injected[1], dataset.epsilon_accumulated[1])


def test_sites__equal_a_direct_evaluation(dataset, quantized, tiny_model):
    sampler = DDIM(tiny_model.schedule, STEPS)
    x = reference_of(tiny_model, sampler, 5, 3, 4)[2][0][:4].float()
    timestep = torch.full((4,), sampler.updates[2].timestep)
    plain, integer = {}, {}

    def keep(site, contraction):
        plain[site] = contraction.float()
        return plain[site]

    forward(tiny_model.module, keep, x, timestep)
    quantized(x, timestep, lambda site, found: integer.__setitem__(site, found.output))
    for index, facts in enumerate(quantized.sites):
        want = stored(plain[facts.key].double(), integer[facts.key].double())
        got = dataset.site_injected[2, index, :4].values
        # the order of summation is the engine's memory order, hence not the last bits
        assert np.allclose(got, want, rtol=1e-9, atol=1e-12 * np.abs(want).max()), str(facts.key)


def test_sites__clip_counts_are_those_of_all_samples(dataset, quantized, tiny_model):
    sampler = DDIM(tiny_model.schedule, STEPS)
    x = reference_of(tiny_model, sampler, 5, 3, 4)[1][0].float()
    total = dict.fromkeys((facts.key for facts in quantized.sites), 0)
    for members in (slice(0, 4), slice(4, 5)):
        timestep = torch.full((len(x[members]),), sampler.updates[1].timestep)

        def watch(site, found):
            total[site] += found.clipped

        quantized(x[members], timestep, watch)
    assert dataset.site_clipped_injected[1].values.tolist() == list(total.values())


def test_counts__are_the_elements_behind_each_moment(dataset):
    assert np.all(dataset.epsilon_count == 64)
    per_sample = [12, 12, 12 * 64, 12 * 16, 16 * 36, 2 * 16 * 16, 16 * 12, 16 * 12, 64]
    assert dataset.site_count.values.tolist() == [[n] * 5 for n in per_sample]


@pytest.mark.parametrize("tokens", [1, 2, 4, 6])
def test_sites__that_run_once_for_all_samples_count_whole_for_each(tiny_model, tokens):
    class Positions(nn.Module):
        """Adds the mean of a projected table, which has no batch axis."""

        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.arange(tokens * 5.0).reshape(tokens, 5).sin())
            self.embed, self.last = nn.Linear(5, 3), nn.Conv2d(1, 1, 1)

        def forward(self, x, timestep):
            return self.last(x + self.embed(self.table).mean())

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = dataclasses.replace(tiny_model, module=Positions().eval().requires_grad_(False))
    sampler = DDIM(model.schedule, 2)
    network = QuantizedModel(model, Scheme.parse("w4a4"), calibrate_ranges(model, sampler, samples=2))
    got = run(Arm(network), sampler, samples=4, batch_size=2)
    assert got.site_count.sel(site="embed:linear").values.tolist() == [tokens * 3] * 4
    assert np.ptp(got.site_injected.sel(site="embed:linear", moment="mean_y").values) == 0


# Reductions


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("method", [DDIM, DDPM])
def test_zero_noise__leaves_the_trajectory_bit_identical(quantized, tiny_model, method, prediction_type):
    sampler = method(tiny_model.schedule, STEPS, prediction_type=prediction_type)
    got = run(Arm(Float(quantized, prediction_type=prediction_type)), sampler, samples=3)
    assert np.array_equal(got.sample_quantized, got.sample_reference)
    for name in ("epsilon_injected", "epsilon_accumulated", "state_accumulated", "site_injected", "site_accumulated"):
        for moment in ERRORS:
            assert np.all(got[name].sel(moment=moment) == 0), (name, moment)
    assert np.all(got.epsilon_injected.sel(moment="yy") > 0)


def test_constant_error__is_recorded_as_its_mean_alone(quantized, tiny_model):
    got = run(
        Arm(Float(quantized, lambda output: output + 0.25)),
        DDIM(tiny_model.schedule, STEPS),
        samples=3,
        kinds=("injected",),
    )
    assert np.allclose(got.epsilon_injected.sel(moment="mean_e"), 0.25, rtol=0, atol=1e-6)
    assert np.all(got.epsilon_injected.sel(moment="ee") < 1e-12)  # float32 rounding of the sum


def test_correction__changes_epsilon_and_the_update_and_is_recorded(quantized, tiny_model):
    sampler = DDIM(tiny_model.schedule, STEPS)
    plain, corrected = run_arms([Arm(quantized), Arm(quantized, Halving())], sampler, samples=3)
    assert corrected.correction == "halving"
    assert json.loads(corrected.attrs["config"])["correction"] == {"name": "halving", "factor": 0.5}
    assert corrected.attrs["key"] != plain.attrs["key"]
    assert np.allclose(corrected.a_used, sampler_a(sampler, 0.9))
    assert np.array_equal(corrected.a, plain.a)
    full = reference_of(tiny_model, sampler, 3, 0, 3)
    for step, (x, output, _) in enumerate(full):
        direct = quantized(x.float(), torch.full((3,), sampler.updates[step].timestep)).double() * 0.5 + step
        assert np.array_equal(corrected.epsilon_sample_injected[step, 0], stored(output, direct))
    x, arm_x = full[0][0], full[0][0]
    for step, update in enumerate(sampler.updates):
        epsilon = quantized(arm_x.float(), torch.full((3,), update.timestep)).double() * 0.5 + step
        x0 = (arm_x - float(update.sqrt_one_minus_alpha_cumprod) * epsilon) / float(update.sqrt_alpha_cumprod)
        arm_x = float(update.x0_coefficient) * 0.9 * x0 + float(update.epsilon_coefficient) * epsilon
        x = full[step][2]
        assert np.allclose(corrected.state_accumulated[step, 0], stored(x, arm_x), rtol=1e-9, atol=1e-12)


def sampler_a(sampler, factor):
    return [factor * u.x0_coefficient / u.sqrt_alpha_cumprod + u.x_coefficient for u in sampler.updates]


def test_correction__that_was_fitted_for_another_use_is_refused_before_the_work(quantized, tiny_model):
    class Picky(NoCorrection):
        def check(self, use):
            seen.append(use)
            raise BadInput("it must fit", got=use["scheme"], fix="fit it again")

    seen: list[dict] = []
    ticks: list = []
    with pytest.raises(BadInput, match="it must fit"):
        run(Arm(quantized, Picky()), DDIM(tiny_model.schedule, STEPS), samples=1, progress=lambda *a: ticks.append(a))
    assert seen[0]["scheme"] == "w4a6"
    assert seen[0]["sampler"]["name"] == "ddim"
    assert not ticks


# Independence


def test_arms__computed_together_equal_arms_computed_alone(quantized, tiny_model, ranges, sampler):
    other = QuantizedModel(tiny_model, Scheme.parse("w8a4"), ranges)
    arms = [Arm(quantized), Arm(other), Arm(quantized, Halving()), Arm(other)]
    options = {"samples": 5, "seed": 1, "batch_size": 3}
    for arm, together in zip(arms, run_arms(arms, sampler, **options), strict=True):
        alone = run(arm, sampler, **options)
        equal(together, alone)
        assert together.attrs == alone.attrs
        assert together.coords.to_dataset().identical(alone.coords.to_dataset())


def test_run__is_repeatable_to_the_byte(quantized, tiny_model, dataset):
    equal(run(Arm(quantized), DDIM(tiny_model.schedule, STEPS), samples=5, seed=3, batch_size=4), dataset)


def test_samples__do_not_depend_on_how_many_there_are_or_on_the_batch(quantized, tiny_model, sampler):
    options = {"seed": 2}
    five = run(Arm(quantized), sampler, samples=5, batch_size=5, **options)
    three = run(Arm(quantized), sampler, samples=3, batch_size=1, **options)
    for name in ("epsilon_sample_injected", "epsilon_sample_accumulated"):
        for part in ("mean_y", "yy"):
            left, right = (d[name].sel(moment=part).values for d in (five.isel(sample=slice(3)), three))
            assert np.allclose(left, right, rtol=1e-4, atol=1e-5)
    # a code may flip where float bits differ with the batch, so that noise agrees in size and not in digits
    left, right = (d.epsilon_sample_injected.sel(moment="ee").values for d in (five.isel(sample=slice(3)), three))
    assert np.allclose(left, right, rtol=0.1)
    noise = NoiseStream(2, "evaluate")
    shape = tiny_model.sample_shape
    assert torch.equal(noise.initial(range(5), shape)[:3], torch.cat([noise.initial([i], shape) for i in range(3)]))
    assert torch.equal(noise.step(1, range(5), shape)[:3], torch.cat([noise.step(1, [i], shape) for i in range(3)]))


def test_float_arm__gives_each_sample_the_same_moments_in_any_batch(quantized, tiny_model):
    sampler = DDIM(tiny_model.schedule, STEPS)
    runs = [
        run(Arm(Float(quantized, lambda out: 1.01 * out)), sampler, samples=n, batch_size=b)
        for n, b in ((5, 5), (3, 1))
    ]
    for name in ("epsilon_sample_injected", "epsilon_sample_accumulated"):
        left, right = runs[0][name].values[:, :, :3], runs[1][name].values
        assert np.allclose(left, right, rtol=1e-3, atol=1e-6 * np.abs(right).max())


def test_blocks__hold_sample_i_in_block_i_mod_64(quantized, tiny_model):
    got = run(Arm(Float(quantized, lambda out: out * 1.1)), DDIM(tiny_model.schedule, 2), samples=70, batch_size=48)
    assert got.sizes["block"] == 64
    assert got.sizes["sample"] == 70
    assert got.sizes["shown"] == 64
    assert got.epsilon_count.values.tolist() == [[128] * 6 + [64] * 58]
    assert got.site_count.values[-1].tolist() == [128] * 6 + [64] * 58
    per_sample = got.epsilon_sample_injected.values[:, 0]
    means, squares = per_sample[..., 0], per_sample[..., 2] + per_sample[..., 0] ** 2
    for block in range(64):
        members = [block, block + 64] if block < 6 else [block]
        mean = means[:, members].mean(axis=1)
        assert np.allclose(got.epsilon_injected[:, 0, block, 0], mean, rtol=1e-12, atol=1e-14)
        variance = squares[:, members].mean(axis=1) - mean**2
        assert np.allclose(got.epsilon_injected[:, 0, block, 2], variance, rtol=1e-10)


def test_blocks__do_not_depend_on_the_batch_beyond_floats_own_rounding(quantized, tiny_model):
    sampler, arm = DDIM(tiny_model.schedule, 2), Arm(Float(quantized, lambda out: out * 1.1))
    whole, split = (run(arm, sampler, samples=66, batch_size=b).epsilon_accumulated for b in (66, 5))
    assert np.allclose(whole, split, rtol=1e-3, atol=1e-6 * float(np.abs(split).max()))


# Options


def test_kinds__without_accumulated_no_arm_walks_its_own_trajectory(quantized, tiny_model):
    sampler = DDIM(tiny_model.schedule, STEPS)
    both = run(Arm(quantized), sampler, samples=2)
    injected = run(Arm(quantized), sampler, samples=2, kinds=("injected",))
    accumulated = run(Arm(quantized), sampler, samples=2, kinds=("accumulated",))
    assert not any("accumulated" in name or name.startswith("sample_") for name in injected.data_vars)
    assert not any("injected" in name for name in accumulated.data_vars)
    assert set(injected.data_vars) | set(accumulated.data_vars) == set(both.data_vars)
    for part in (injected, accumulated):
        equal(part, both[list(part.data_vars)])


def test_sites__are_left_out_on_request_and_change_nothing_else(quantized, tiny_model):
    sampler = DDIM(tiny_model.schedule, STEPS)
    full, bare = (run(Arm(quantized), sampler, samples=2, sites=sites) for sites in (True, False))
    assert not any(name.startswith("site") for name in bare.variables)
    equal(bare, full[list(bare.data_vars)])


def test_state__may_be_float32(quantized, tiny_model):
    got = run(Arm(quantized), DDIM(tiny_model.schedule, STEPS), samples=2, state=Float32State())
    other = run(Arm(quantized), DDIM(tiny_model.schedule, STEPS), samples=2)
    assert json.loads(got.attrs["config"])["state"] == "Float32State"
    assert np.allclose(got.state_accumulated.sel(moment="yy"), other.state_accumulated.sel(moment="yy"), rtol=1e-3)
    assert got.attrs["key"] != other.attrs["key"]


@pytest.mark.parametrize(("samples", "batch_size", "batches"), [(5, 2, 3), (4, 4, 1), (3, 9, 1)])
def test_progress__counts_every_step_of_every_batch(quantized, tiny_model, samples, batch_size, batches):
    ticks: list[tuple[int, int]] = []
    run(
        Arm(quantized), DDIM(tiny_model.schedule, STEPS), samples=samples, batch_size=batch_size,
        kinds=("injected",), sites=False, progress=lambda done, total: ticks.append((done, total)),
    )  # fmt: skip
    assert ticks == [(i, batches * STEPS) for i in range(1, batches * STEPS + 1)]


# Provenance


def test_config__states_all_that_determines_the_run(dataset, tiny_model, ranges):
    config = json.loads(dataset.attrs["config"])
    assert config["model"] == "tiny@1"
    assert config["weights_digest"] == tiny_model.weights_digest
    assert config["scheme"] == "w4a6"
    assert config["samples"] == 5
    assert config["batch_size"] == 4
    assert config["seed"] == 3
    assert config["threads"] == torch.get_num_threads()
    assert config["ranges"] == json.loads(json.dumps(ranges.source))
    assert config["sampler"] == json.loads(json.dumps(DDIM(tiny_model.schedule, STEPS).config()))
    assert canonical(config) == dataset.attrs["config"]
    assert run_key(config) == dataset.attrs["key"]


def test_config__calibration_and_evaluation_have_different_purposes(dataset):
    config = json.loads(dataset.attrs["config"])
    assert config["purpose"] == "evaluate"
    assert config["ranges"]["purpose"] == "calibrate"


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"purpose": "calibrate"}, {"samples": 4}, {"batch_size": 5}, {"state": Float32State()}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_key__changes_with_everything_that_changes_the_numbers(dataset, quantized, tiny_model, change):
    options = {"samples": 5, "seed": 3, "batch_size": 4, "kinds": ("injected",), "sites": False, **change}
    other = run(Arm(quantized), DDIM(tiny_model.schedule, STEPS), **options)
    assert other.attrs["key"] != dataset.attrs["key"]


def test_key__differs_where_the_recorded_variables_differ(dataset, quantized, tiny_model):
    other = run(Arm(quantized), DDIM(tiny_model.schedule, STEPS), samples=5, seed=3, batch_size=4, kinds=("injected",))
    assert set(other.data_vars) != set(dataset.data_vars)
    assert other.attrs["key"] != dataset.attrs["key"]  # the key names the bytes of a file


def test_purpose__draws_other_noise(quantized, tiny_model):
    sampler, options = DDIM(tiny_model.schedule, 2), {"samples": 2, "sites": False}
    runs = [run(Arm(quantized), sampler, purpose=purpose, **options) for purpose in ("evaluate", "calibrate")]
    assert not np.isin(runs[0].sample_reference, runs[1].sample_reference).any()


# Refusals


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"samples": 0}, "samples"),
        ({"samples": -1}, "samples"),
        ({"batch_size": 0}, "batch_size"),
        ({"kinds": ()}, "kinds"),
        ({"kinds": ("injected", "local")}, "kinds"),
        ({"kinds": "injected"}, "kinds"),
        ({"seed": -1}, "seed"),
        ({"purpose": ""}, "purpose"),
    ],
)
def test_run__refuses_bad_options(quantized, tiny_model, options, rule):
    with pytest.raises(BadInput, match=rule) as caught:
        run(Arm(quantized), DDIM(tiny_model.schedule, STEPS), **options)
    assert caught.value.fix


def test_run_arms__refuses_no_arms(tiny_model):
    with pytest.raises(BadInput, match="arm"):
        run_arms([], DDIM(tiny_model.schedule, STEPS))


def test_run_arms__refuses_arms_of_different_models(quantized, tiny_model, ranges):
    other = dataclasses.replace(tiny_model, weights_digest="1" * 64)
    of_other = dataclasses.replace(ranges, source={**ranges.source, "weights_digest": other.weights_digest})
    arms = [Arm(quantized), Arm(QuantizedModel(other, Scheme.parse("w8a8"), of_other))]
    with pytest.raises(BadInput, match="2 models"):
        run_arms(arms, DDIM(tiny_model.schedule, STEPS))


def test_quantized_model__refuses_ranges_of_other_weights(tiny_model, ranges):
    other = dataclasses.replace(tiny_model, weights_digest="1" * 64)
    with pytest.raises(BadInput, match="calibrated on the model"):
        QuantizedModel(other, Scheme.parse("w8a8"), ranges)


def test_key__states_the_memory_format_which_moves_float_bits(tiny_model):
    from simulator.provenance import model_config

    assert model_config(tiny_model)["memory_format"] == "contiguous"
    module = copy.deepcopy(tiny_model.module).to(memory_format=torch.channels_last)
    assert model_config(dataclasses.replace(tiny_model, module=module))["memory_format"] == "channels_last"


def test_run__refuses_a_sampler_that_reads_the_output_otherwise_than_the_model_means_it(quantized, tiny_model):
    assert tiny_model.prediction_type == "epsilon"
    with pytest.raises(BadInput, match="prediction_type"):
        run(Arm(quantized), DDIM(tiny_model.schedule, STEPS, prediction_type="v_prediction"), samples=1)


class WritesInPlace(nn.Module):
    """A network that writes to its input, and to what its layers give."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)
        self.in_place = in_place

    def forward(self, x, timestep):
        if not self.in_place:
            return self.second(torch.relu(self.first(x * 0.5)))
        return self.second(torch.relu_(self.first(x.mul_(0.5)))).mul_(1.0)


@pytest.mark.parametrize("state", [Float32State(), FLOAT64])
def test_records__are_those_of_a_network_that_writes_nowhere(tiny_model, state):
    runs = []
    for in_place in (False, True):
        module = WritesInPlace(in_place).eval().requires_grad_(False)
        model = dataclasses.replace(tiny_model, module=module, sample_shape=(1, 8, 8))
        sampler = DDIM(model.schedule, 2)
        network = QuantizedModel(model, Scheme.parse("w4a4-acc16"), calibrate_ranges(model, sampler, samples=2))
        runs.append((run(Arm(network), sampler, samples=3, state=state), attribute(network, sampler, samples=3)))
    for plain, written in zip(*runs, strict=True):
        for name in plain.data_vars:
            assert np.array_equal(plain[name], written[name]), name


@pytest.mark.parametrize("state", [Float16State(), BFloat16State()])
def test_half_precision_state__is_a_noise_source_of_its_own(quantized, tiny_model, state):
    sampler = DDIM(tiny_model.schedule, STEPS)
    found = run(Arm(quantized), sampler, samples=3, state=state)
    wide = run(Arm(quantized), sampler, samples=3)
    assert found.attrs["key"] != wide.attrs["key"]
    for name in ("sample_reference", "sample_quantized"):
        values = torch.from_numpy(found[name].values.astype(np.float32))
        assert torch.equal(values, values.to(state.dtype).float())
        assert not np.array_equal(found[name], wide[name])
    assert np.isfinite(found.state_accumulated).all()
