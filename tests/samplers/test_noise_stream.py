"""Claim: a noise value depends on (seed, purpose, use, step, sample) alone, and the values are standard normal."""

import hashlib
import statistics
from itertools import pairwise

import numpy as np
import pytest
import torch

from samplers import BadInput, NoiseSource, NoiseStream

STREAM = NoiseStream(11, "evaluate")


@pytest.mark.parametrize("draw", [STREAM.initial, lambda s, shape: STREAM.step(5, s, shape)], ids=["initial", "step"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 4), (1, 3, 3)])
def test_noise__does_not_depend_on_batch_order_or_count(draw, shape: tuple[int, ...]) -> None:
    together = draw(range(10), shape)
    assert together.dtype == torch.float64
    assert together.shape == (10, *shape)
    assert torch.equal(together, torch.cat([draw(range(7), shape), draw(range(7, 10), shape)]))
    order = np.array([9, 0, 4, 4, 2])
    assert torch.equal(draw(order, shape), together[torch.from_numpy(order)])
    assert torch.equal(draw([6], shape)[0], together[6])
    assert draw(range(0), shape).shape == (0, *shape)


def test_noise__of_a_smaller_shape_is_a_prefix() -> None:
    assert torch.equal(STREAM.initial(range(3), (5,)), STREAM.initial(range(3), (64,))[:, :5])


def test_noise__does_not_depend_on_what_was_drawn_before() -> None:
    first = STREAM.step(2, range(4), (6,))
    STREAM.initial(range(100), (9,))
    assert torch.equal(STREAM.step(2, range(4), (6,)), first)
    assert torch.equal(NoiseStream(11, "evaluate").step(2, range(4), (6,)), first)


@pytest.mark.parametrize(("use", "step", "sample"), [(0, 0, 0), (1, 0, 0), (1, 49, 3), (1, 2, 2**40)])
def test_noise__is_the_documented_counter_layout(use: int, step: int, sample: int) -> None:
    # The address written out by hand, a fresh generator for one sample, and the normal quantile of another library.
    key = int.from_bytes(hashlib.sha256(b"qnoise.noise:evaluate:11").digest()[:16])
    counter = np.array([0, sample, step, use], dtype=np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(10)
    quantile = statistics.NormalDist().inv_cdf
    expected = [quantile(((int(w) >> 11) + 0.5) / 2**54) * (1 if int(w) & 1 else -1) for w in words]
    drawn = STREAM.step(step, [sample], (10,)) if use else STREAM.initial([sample], (10,))
    np.testing.assert_allclose(drawn[0].numpy(), expected, rtol=1e-12)


def test_noise__every_part_of_the_address_gives_other_values() -> None:
    n, values = 256, 64
    fields = [
        STREAM.initial(range(n), (values,)),
        STREAM.step(0, range(n), (values,)),
        STREAM.step(1, range(n), (values,)),
        STREAM.step(0, range(n, 2 * n), (values,)),
        NoiseStream(12, "evaluate").step(0, range(n), (values,)),
        NoiseStream(11, "calibrate").step(0, range(n), (values,)),
        NoiseStream(11, "calibrate").initial(range(n), (values,)),
    ]
    # No value occurs twice (53 random bits: a chance meeting has probability 1e-6), and nothing is correlated.
    everything = torch.cat([field.flatten() for field in fields])
    assert everything.abs().unique().numel() == everything.numel()
    table = torch.stack([field.flatten() for field in fields])
    correlation = torch.corrcoef(table) - torch.eye(len(fields))
    assert correlation.abs().max() < 5 / (n * values) ** 0.5


def test_noise__neighbouring_samples_steps_and_values_are_uncorrelated() -> None:
    x = STREAM.step(0, range(1000), (100,))
    for left, right in ((x[1:], x[:-1]), (x[:, 1:], x[:, :-1]), (x, STREAM.step(1, range(1000), (100,)))):
        assert abs(float((left * right).mean())) < 5 / left.numel() ** 0.5


def test_noise__has_the_moments_of_a_standard_normal() -> None:
    x = torch.cat([STREAM.initial(range(1000), (100,)), STREAM.step(3, range(1000), (100,))]).flatten()
    n = x.numel()
    # Standard errors of the raw moments of N normals: Var x^k = E x^2k - (E x^k)^2 = 1, 2, 15, 96.
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((x**power).mean()) - mean) < 5 * (variance / n) ** 0.5
    # Kolmogorov's distance, whose 1e-6 quantile is 2.69 / sqrt(N).
    grid = torch.sort(x).values
    cdf = torch.special.ndtr(grid)
    ranks = torch.arange(1, n + 1, dtype=torch.float64) / n
    assert float(torch.maximum((cdf - ranks).abs(), (cdf - ranks + 1 / n).abs()).max()) < 2.69 / n**0.5


def test_noise__is_finite_and_symmetric_at_the_extreme_words(monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.array([0, 1, 2**64 - 1, 2**64 - 2], dtype=np.uint64)
    monkeypatch.setattr(NoiseStream, "_raw", lambda self, use, step, rows, count: iter([words]))
    lowest, highest, *middle = STREAM.initial([0], (4,))[0].tolist()
    assert lowest == -highest
    assert 8.37 < abs(lowest) < 8.38
    assert middle == [0.0, 0.0]


def test_noise__equal_streams_are_one_value() -> None:
    assert NoiseStream(np.int64(3), "evaluate") == NoiseStream(3, "evaluate")
    assert isinstance(STREAM, NoiseSource)
    for a, b in pairwise([NoiseStream(2**80, "a"), NoiseStream(2**80 + 1, "a"), NoiseStream(2**80, "b")]):
        assert not torch.equal(a.initial([0], (4,)), b.initial([0], (4,)))


@pytest.mark.parametrize("seed", [-1, 1.0, "1", None, True, np.float64(3)])
def test_noise__refuses_a_bad_seed(seed) -> None:
    with pytest.raises(BadInput, match="seed must be an integer of at least 0"):
        NoiseStream(seed, "evaluate")


@pytest.mark.parametrize("purpose", ["", None, 3])
def test_noise__refuses_a_bad_purpose(purpose) -> None:
    with pytest.raises(BadInput, match="purpose must be a non-empty str"):
        NoiseStream(0, purpose)


@pytest.mark.parametrize("samples", [[-1], [0.5], [[1, 2]], 3, ["a"]])
def test_noise__refuses_bad_samples(samples) -> None:
    with pytest.raises(BadInput, match="samples must be a 1-D list"):
        STREAM.initial(samples, (2,))


@pytest.mark.parametrize("step", [-1, 0.0, None])
def test_noise__refuses_a_bad_step(step) -> None:
    with pytest.raises(BadInput, match="step must be an integer"):
        STREAM.step(step, range(2), (2,))
