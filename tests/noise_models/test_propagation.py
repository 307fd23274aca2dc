"""Claim: errors obey the sampler's own update, so for affine networks the prediction is exact; for others it is as good
as its model of the network's response and noise, never looks at a quantized trajectory, and says what it cannot do.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch

from noise_models import sqnr_db
from noise_models.propagation.error_recursion import ErrorRecursion
from noise_models.propagation.prediction import Predictor, predict_noise
from noise_models.propagation.transfer import final_variance, naive_final_power, noise_transfer
from samplers import DDIM, DDPM, BadInput, NoiseSchedule, NoiseStream, Update, sample
from samplers.coefficients import Earlier
from samplers.method import Method
from simulator import Arm, QuantizedModel, Scheme, calibrate_ranges, run
from simulator.models.registry import Model

SCHEDULE = NoiseSchedule("scaled_linear", 1000, 0.0015, 0.0195)


class TwoStep(Method):
    """A multistep sampler made up for the test: DDIM whose x0 and epsilon are mixed with the call before."""

    name = "two-step"

    @property
    def updates(self) -> tuple[Update, ...]:
        first, *rest = DDIM(self.schedule, self.num_inference_steps, 0.6).updates
        return first, *(
            dataclasses.replace(update, history=(Earlier(np.float64(0.3), np.float64(-0.2)),)) for update in rest
        )


SAMPLERS = (DDIM(SCHEDULE, 10), DDIM(SCHEDULE, 10, 1.0), DDPM(SCHEDULE, 10, "fixed_large"), TwoStep(SCHEDULE, 10))


def affine(sampler, added):
    """epsilon = A_t x + 0.1 in two directions, plus ``added`` (call, direction); A_t and the final samples."""
    slopes = {u.timestep: [math.sqrt(1 - u.alpha_cumprod), 0.5 + 0.3 * u.alpha_cumprod] for u in sampler.updates}
    order = {u.timestep: i for i, u in enumerate(sampler.updates)}

    def denoise(x, timestep):
        t = int(timestep[0])
        return x * torch.tensor(slopes[t], dtype=x.dtype) + 0.1 + added[order[t]]

    noise = NoiseStream(3, "evaluate")
    return np.array(list(slopes.values())), sample(
        denoise, sampler, noise, range(4), (2,), denoiser_dtype=torch.float64
    )


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: f"{s.name}-{getattr(s, 'eta', '')}")
def test_transfer__is_exact_for_an_affine_network(sampler) -> None:
    added = torch.randn(10, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    jacobian, noisy = affine(sampler, added)
    clean = affine(sampler, torch.zeros_like(added))[1]
    predicted = (noise_transfer(sampler, jacobian) * added.numpy()).sum(0)
    np.testing.assert_allclose((noisy - clean).numpy(), np.broadcast_to(predicted, (4, 2)), rtol=1e-10, atol=1e-12)


def test_transfer__without_a_jacobian_is_the_product_of_the_coefficients() -> None:
    sampler = DDIM(SCHEDULE, 8, 0.7)
    a, b = ([getattr(u, name) for u in sampler.updates] for name in "ab")
    expected = [b[i] * math.prod(a[i + 1 :]) for i in range(8)]
    np.testing.assert_allclose(noise_transfer(sampler)[:, 0], expected, rtol=1e-12)
    injected = np.linspace(0.1, 0.8, 8)
    assert naive_final_power(sampler, injected, "sum") == pytest.approx(np.sum(np.square(expected) * injected))
    assert naive_final_power(sampler, injected, "last-step") == pytest.approx(expected[-1] ** 2 * injected[-1])
    with pytest.raises(BadInput, match="kind"):
        naive_final_power(sampler, injected, "last")
    with pytest.raises(BadInput, match="per call"):
        final_variance(sampler, np.ones(3), np.zeros((8, 3)))


def test_naive_power__counts_noise_as_epsilon_whatever_the_network_predicts() -> None:
    injected = np.linspace(0.1, 0.8, 8)
    powers = {
        kind: naive_final_power(DDIM(SCHEDULE, 8, prediction_type=kind), injected, "sum")
        for kind in ("epsilon", "sample", "v_prediction")
    }
    assert len(set(powers.values())) == 1


def test_final_variance__is_that_of_simulated_independent_noise() -> None:
    sampler, draws = DDIM(SCHEDULE, 6, 0.5), 40000
    sigma = np.array([0.3, 0.1, 0.2, 0.5, 0.2, 0.4])
    jacobian = np.linspace(0.9, 0.2, 6)[:, None]
    generator = np.random.default_rng(1)
    error = ErrorRecursion(sampler, (draws,))
    for update, scale, slope in zip(sampler.updates, sigma, jacobian[:, 0], strict=True):
        error.step(update, slope * error.x + torch.from_numpy(scale * generator.standard_normal(draws)))
    expected = final_variance(sampler, sigma**2, jacobian)[0]
    assert abs(float(error.x.var()) / expected - 1) < 5 * math.sqrt(2 / draws)


def networks(model, sampler, *schemes):
    ranges = calibrate_ranges(model, sampler, samples=64)
    return [QuantizedModel(model, Scheme.parse(scheme), ranges) for scheme in schemes]


def final_db(dataset, variable="state_predicted") -> float:
    return float(sqnr_db(dataset, variable).sqnr_db[-1])


@pytest.mark.parametrize("sampler", [DDIM(NoiseSchedule(), 8, 1.0), DDPM(NoiseSchedule(), 8)], ids=["ddim", "ddpm"])
def test_prediction__of_small_noise_is_the_measured_noise_of_the_same_samples(tiny_model, one_thread, sampler) -> None:
    (network,) = networks(tiny_model, sampler, "w8a12")
    measured = final_db(run(Arm(network), sampler, samples=32, purpose="same", sites=False), "state_accumulated")
    found = {
        p.name: final_db(predict_noise([network], sampler, p, samples=32, batch_size=32, purpose="same")[0])
        for p in (Predictor("finite", "recorded"), Predictor("tangent", "recorded"))
    }
    # weight noise is a smooth field, which the recorded injection has at the undisturbed x: first order in its error
    assert found["finite-recorded"] == pytest.approx(measured, abs=0.3)
    assert found["tangent-recorded"] == pytest.approx(found["finite-recorded"], abs=0.05)


def test_prediction__serves_several_networks_as_it_serves_each_alone(tiny_model, one_thread) -> None:
    sampler = DDIM(NoiseSchedule(), 4)
    both = networks(tiny_model, sampler, "w4a8", "w8a8")
    together = predict_noise(both, sampler, samples=16, batch_size=8)
    for one, shared in zip(both, together, strict=True):
        alone = predict_noise([one], sampler, samples=16, batch_size=8)[0]
        assert alone.state_predicted.values.tobytes() == shared.state_predicted.values.tobytes()
        assert alone.attrs["key"] == shared.attrs["key"]
    assert final_db(together[0]) < final_db(together[1])


def test_prediction__never_runs_the_quantized_network_on_its_own_trajectory(
    tiny_model, one_thread, monkeypatch
) -> None:
    sampler = DDIM(NoiseSchedule(), 4)
    (network,) = networks(tiny_model, sampler, "w4a8")
    seen, call = [], QuantizedModel.__call__
    monkeypatch.setattr(
        QuantizedModel,
        "__call__",
        lambda self, x, *args, **kwargs: (seen.append(x.clone()), call(self, x, *args, **kwargs))[1],
    )
    predict_noise([network], sampler, Predictor("finite", "recorded"), samples=8, batch_size=8)
    visited = []
    sample(
        lambda x, t: (visited.append(x.clone()), tiny_model.module(x, t))[1],
        sampler, NoiseStream(0, "predict"), range(8), (1, 8, 8),
    )  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(seen, visited, strict=True))


def test_prediction__displaces_by_another_samples_error_and_another_at_every_step(
    tiny_model, one_thread, monkeypatch
) -> None:
    sampler = DDIM(NoiseSchedule(), 4)
    (network,) = networks(tiny_model, sampler, "w4a4")
    seen, call = [], QuantizedModel.__call__
    errors, step = [], ErrorRecursion.step
    monkeypatch.setattr(
        QuantizedModel,
        "__call__",
        lambda self, x, *args, **kwargs: (seen.append(x.double()), call(self, x, *args, **kwargs))[1],
    )
    monkeypatch.setattr(
        ErrorRecursion, "step", lambda self, *args: (step(self, *args), errors.append(self.x.clone()))[0]
    )
    predict_noise([network], sampler, Predictor(injection="displaced"), samples=8, batch_size=8)
    at, displaced = [seen[0], *seen[1::2]], seen[2::2]  # the first error is 0, so nothing is displaced there
    others = []
    for x, moved, error in zip(at[1:], displaced, errors, strict=False):
        (other,) = [d for d in range(8) if torch.allclose(moved - x, error.roll(d, 0), atol=1e-6)]
        others.append(other)
    assert 0 not in others
    assert len(set(others)) == len(others) == 3


class Gains(torch.nn.Module):
    """output = w x, through three layers of which the middle one is quantized coarsely: its noise is a wrong gain."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = (torch.nn.Conv2d(a, b, 1, bias=False) for a, b in ((1, 2), (2, 1), (1, 1)))
        for layer, weight in ((self.first, [1.0, 1.0]), (self.middle, [0.7, 0.2]), (self.last, [1.0])):
            layer.weight.data = torch.tensor(weight).reshape(layer.weight.shape)

    def forward(self, x, timestep):
        return self.last(self.middle(self.first(x)))


@pytest.mark.parametrize("sampler", [DDIM(NoiseSchedule(), 8), DDPM(NoiseSchedule(), 8)], ids=["ddim", "ddpm"])
def test_split__follows_noise_that_is_a_wrong_gain_where_displaced_takes_it_for_independent(
    one_thread, sampler
) -> None:
    model = Model("gains", 1, Gains().eval().requires_grad_(False), NoiseSchedule(), (1, 8, 8), "epsilon", "2" * 64)
    (network,) = networks(model, sampler, "w3a12")
    measured = final_db(run(Arm(network), sampler, samples=64, purpose="same", sites=False), "state_accumulated")
    found = {
        kind: final_db(predict_noise([network], sampler, Predictor(injection=kind), samples=64, purpose="same")[0])
        for kind in ("split", "displaced", "recorded")
    }
    assert found["split"] == pytest.approx(measured, abs=0.05)
    assert abs(found["displaced"] - measured) > 0.3
    assert abs(found["recorded"] - measured) > 0.3


def test_prediction__gives_the_error_of_the_state_that_each_step_leads_to(tiny_model, one_thread) -> None:
    sampler = DDIM(NoiseSchedule(), 3)
    (network,) = networks(tiny_model, sampler, "w4a4")
    predicted = predict_noise([network], sampler, Predictor(injection="recorded"), samples=32, purpose="same")[0]
    measured = run(Arm(network), sampler, samples=32, purpose="same", sites=False)
    # the first step's error is injected noise alone, and full precision's states are the run's own
    np.testing.assert_allclose(
        predicted.state_predicted[0].sel(moment="ee"), measured.state_accumulated[0].sel(moment="ee"), rtol=1e-4
    )
    np.testing.assert_allclose(
        predicted.state_predicted.sel(moment="yy"), measured.state_accumulated.sel(moment="yy"), rtol=1e-5
    )


def test_prediction__white_noise_has_the_injected_power_and_no_memory(tiny_model, one_thread) -> None:
    sampler = DDIM(NoiseSchedule(), 1)
    (network,) = networks(tiny_model, sampler, "w4a4")
    made = {
        kind: predict_noise([network], sampler, Predictor(injection=kind), samples=64)[0]
        for kind in ("white", "recorded")
    }
    # after one step the error is the injected noise itself
    assert final_db(made["white"]) == pytest.approx(final_db(made["recorded"]), abs=0.3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampler": DDIM(NoiseSchedule(), 4, clip_sample=True)}, "linear updates, got a ddim sampler that clips x0"),
        ({"sampler": DDPM(NoiseSchedule(), 4, "learned_range")}, "whose network predicts the variance"),
        ({"samples": 0}, "samples"),
        ({"samples": 17, "batch_size": 16}, "every batch needs 3 or more, got a batch of 1"),
        ({"networks": []}, "one model and conditioning, got 0 models"),
    ],
)
def test_prediction__refuses_bad_input(tiny_model, arguments, message) -> None:
    sampler = DDIM(NoiseSchedule(), 4)
    given = {"networks": networks(tiny_model, sampler, "w8a8"), "sampler": sampler, "samples": 8, **arguments}
    with pytest.raises(BadInput, match=message):
        predict_noise(given.pop("networks"), given.pop("sampler"), **given)


def test_predictor__refuses_unknown_names() -> None:
    with pytest.raises(BadInput, match="tangent, finite"):
        Predictor("secant")
    with pytest.raises(BadInput, match="recorded, displaced, split, white"):
        Predictor(injection="pink")


def test_tangent__names_an_operation_without_a_forward_derivative(one_thread) -> None:
    class Stubborn(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x, timestep):
            return self.conv(Stubborn.apply(x))

    model = Model("stubborn", 1, Net().eval().requires_grad_(False), NoiseSchedule(), (1, 8, 8), "epsilon", "1" * 64)
    sampler = DDIM(NoiseSchedule(), 2)
    with pytest.raises(BadInput, match="finite"):
        predict_noise(networks(model, sampler, "w8a8"), sampler, Predictor("tangent", "recorded"), samples=8)
