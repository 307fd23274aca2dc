"""Claim: a fixed-point combination is the exact integer sum, rounded once to nearest even and saturated.

The reference is in Fractions. Ties are dense: codes and coefficients have few bits, so many sums lie on a half.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from samplers import DDIM, BadInput, FixedPointState, NoiseSchedule, NoiseStream, State, sample


def rounded(value: Fraction) -> int:
    return round(value)  # Python's: ties to even, of any rational


def normative(state: FixedPointState, coefficients: list[float], codes: list[int], divisor: float) -> Fraction:
    """One element of a combination; codes are integers of the state."""
    unit = 2**state.coefficient_fraction_bits
    weights = [rounded(Fraction(c / divisor) * unit) for c in coefficients]
    total = rounded(Fraction(sum(w * code for w, code in zip(weights, codes, strict=True)), unit))
    end = 2 ** (state.bits - 1)
    return Fraction(min(max(total, -end), end - 1), 2**state.fraction_bits)


@settings(max_examples=300, deadline=None)
@given(
    bits=st.integers(2, 30),
    fraction_bits=st.integers(0, 20),
    coefficient_fraction_bits=st.integers(0, 12),
    terms=st.lists(st.tuples(st.integers(-40, 40).map(lambda n: n / 16), st.data()), min_size=1, max_size=5),
    divisor=st.sampled_from([1.0, 0.5, 0.3, 7.0]),
)
def test_combine__is_the_exact_sum_rounded_once(bits, fraction_bits, coefficient_fraction_bits, terms, divisor) -> None:
    state = FixedPointState(bits, fraction_bits, coefficient_fraction_bits)
    end = 2 ** (bits - 1)
    coefficients = [c for c, _ in terms]
    if not any(coefficients):
        return
    codes = [data.draw(st.integers(max(-end, -99), min(end - 1, 99)) | st.integers(-end, end - 1)) for _, data in terms]
    tensors = [torch.tensor([code / 2**fraction_bits], dtype=torch.float64) for code in codes]
    found = state.combine(coefficients, tensors, divisor)
    assert Fraction(found.item()) == normative(state, coefficients, codes, divisor)
    assert torch.equal(state.cast(found), found)


def test_cast__rounds_ties_to_even_saturates_and_refuses_nan() -> None:
    state = FixedPointState(4, 1, 4)
    values = torch.tensor([0.25, 0.75, 1.25, -0.25, 3.4, 3.9, -9.0, torch.inf, -torch.inf])
    assert state.cast(values).tolist() == [0, 1, 1, 0, 3.5, 3.5, -4, 3.5, -4]
    assert state.largest == 3.5
    assert state.saturated(state.cast(values)) == 5
    with pytest.raises(BadInput, match="holds no NaN"):
        state.cast(torch.tensor([torch.nan]))


def test_state__is_a_value_of_the_protocol() -> None:
    assert isinstance(FixedPointState(), State)
    assert FixedPointState(np.int64(24)) == FixedPointState()
    assert FixedPointState().dtype == torch.float64


def test_noise_of_a_run__falls_by_6_db_a_fraction_bit() -> None:
    # Rounding noise has variance 2^(-2 f) / 12, so every further bit takes 6.02 dB from the final sample's error.
    # Of 4096 elements a power has a standard error of 2.2 %, 0.1 dB: 0.5 is 3.6 of them for a difference.
    sampler, noise = DDIM(NoiseSchedule(), 10, 1.0), NoiseStream(0, "test")

    def final(state=None) -> torch.Tensor:
        given = {} if state is None else {"state": state}
        return sample(lambda x, t: x / 2, sampler, noise, range(8), (512,), denoiser_dtype=torch.float64, **given)

    exact = final()
    powers = [(final(FixedPointState(24, f, 20)) - exact).square().mean().item() for f in (8, 10, 12)]
    assert 10 * np.log10(np.array(powers[:-1]) / powers[1:]) == pytest.approx([12.04, 12.04], abs=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 1}, "bits must be an integer of at least 2"),
        ({"bits": 53}, "at most 52"),
        ({"fraction_bits": -1}, "fraction_bits"),
        ({"coefficient_fraction_bits": 1.5}, "coefficient_fraction_bits"),
    ],
)
def test_state__refuses_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        FixedPointState(**arguments)


def test_combine__refuses_a_sum_that_might_not_be_exact() -> None:
    x = torch.zeros(2, dtype=torch.float64)
    state = FixedPointState(30, 8, 20)
    assert state.combine((8.0, -7.9), (x, x)).tolist() == [0, 0]  # 2^24 and 2^29: 2^53 at most
    with pytest.raises(BadInput, match="must be exact"):
        state.combine((8.0, -8.1), (x, x))
    with pytest.raises(BadInput, match="float64 tensor for every coefficient"):
        state.combine((1.0,), (x.float(),))
    with pytest.raises(BadInput, match="coefficient other than 0"):
        state.combine((0.0,), (None,))
