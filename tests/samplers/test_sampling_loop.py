"""Claim: the loop calls the denoiser once per timestep, in the dtypes it promises, and batches change no sample."""

from itertools import pairwise

import pytest
import torch

from samplers import DDIM, DDPM, BadInput, Float32State, Float64State, NoiseSchedule, NoiseStream, State, sample

SCHEDULE = NoiseSchedule()
NOISE = NoiseStream(1, "test")


def shrink(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    return 0.3 * x + 1e-4 * timestep.view(-1, *[1] * (x.ndim - 1))


@pytest.mark.parametrize("state", [Float64State(), Float32State()], ids=repr)
@pytest.mark.parametrize("denoiser_dtype", [torch.float32, torch.float64])
def test_sample__feeds_the_denoiser_as_promised(state: State, denoiser_dtype: torch.dtype) -> None:
    seen: list[int] = []

    def denoiser(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        assert x.dtype == denoiser_dtype
        assert x.shape == (3, 2, 2)
        assert timestep.dtype == torch.int64
        assert timestep.shape == (3,)
        assert timestep.unique().numel() == 1
        seen.append(int(timestep[0]))
        return shrink(x, timestep)

    sampler = DDIM(SCHEDULE, 6, eta=0.5)
    x = sample(denoiser, sampler, NOISE, range(3), (2, 2), state=state, denoiser_dtype=denoiser_dtype)
    assert seen == sampler.timesteps.tolist()
    assert x.dtype == state.dtype
    assert x.shape == (3, 2, 2)


def test_sample__gives_the_network_float32_and_keeps_the_state_in_float64_by_default() -> None:
    dtypes = []

    def denoiser(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        dtypes.append(x.dtype)
        return shrink(x, timestep)

    assert sample(denoiser, DDIM(SCHEDULE, 2), NOISE, range(1), (2,)).dtype == torch.float64
    assert dtypes == [torch.float32, torch.float32]


def test_sample__is_the_steps_written_out() -> None:
    sampler = DDPM(SCHEDULE, 5)
    x = NOISE.initial([4, 9], (3,))
    for step, update in enumerate(sampler.updates):
        epsilon = shrink(x.float(), torch.full((2,), update.timestep)).double()
        x = update.a * x + update.b * epsilon + update.c * NOISE.step(step, [4, 9], (3,))
    torch.testing.assert_close(sample(shrink, sampler, NOISE, [4, 9], (3,)), x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "sampler", [DDIM(SCHEDULE, 5, eta=1.0), DDPM(SCHEDULE, 5, "fixed_large")], ids=lambda s: s.name
)
def test_sample__does_not_depend_on_the_batch(sampler) -> None:
    together = sample(shrink, sampler, NOISE, range(8), (3,))
    halves = [sample(shrink, sampler, NOISE, part, (3,)) for part in (range(5), range(5, 8))]
    assert torch.equal(together, torch.cat(halves))


def test_sample__draws_noise_only_where_its_coefficient_is_not_zero() -> None:
    class Counting:
        def __init__(self) -> None:
            self.steps: list[int] = []

        def initial(self, samples, shape):
            return NOISE.initial(samples, shape)

        def step(self, step, samples, shape):
            self.steps.append(step)
            return NOISE.step(step, samples, shape)

    for sampler, expected in (
        (DDIM(SCHEDULE, 4), []),
        (DDIM(SCHEDULE, 4, eta=1.0), [0, 1, 2]),
        (DDPM(SCHEDULE, 2), [0]),
    ):
        noise = Counting()
        sample(shrink, sampler, noise, range(2), (3,))
        assert noise.steps == expected


def test_sample__callback_sees_every_step_in_a_chain() -> None:
    trace = []
    x = sample(shrink, DDPM(SCHEDULE, 4), NOISE, range(2), (3,), callback=lambda *arguments: trace.append(arguments))
    assert [(step, timestep) for step, timestep, *_ in trace] == [(0, 750), (1, 500), (2, 250), (3, 0)]
    assert torch.equal(trace[0][2], NOISE.initial(range(2), (3,)))
    for before, after in pairwise(trace):
        assert torch.equal(before[4], after[2])
    assert torch.equal(trace[-1][4], x)
    for _, timestep, x_t, output, _ in trace:
        assert output.dtype == torch.float64
        assert torch.equal(output, shrink(x_t.float(), torch.full((2,), timestep)).double())


def test_sample__keeps_no_graph() -> None:
    weight = torch.ones((), requires_grad=True)
    assert not sample(lambda x, t: weight * x, DDIM(SCHEDULE, 3), NOISE, range(2), (3,)).requires_grad


def test_sample__refuses_an_output_of_another_shape() -> None:
    with pytest.raises(BadInput, match=r"got \(2, 6\) for input \(2, 3\)"):
        sample(lambda x, t: torch.cat([x, x], dim=1), DDIM(SCHEDULE, 3), NOISE, range(2), (3,))
