"""Claim: combine is the left-to-right sum with one final division, each operation rounded in the state's dtype."""

import numpy as np
import pytest
import torch

from samplers import BadInput, BFloat16State, Float16State, Float32State, Float64State, State

WIDE = [Float64State(), Float32State()]
STATES = [*WIDE, Float16State(), BFloat16State()]
NUMPY = {torch.float64: np.float64, torch.float32: np.float32, torch.float16: np.float16}


@pytest.mark.parametrize("state", [*WIDE, Float16State()], ids=repr)
def test_combine__equals_numpy_scalars_operation_by_operation(state: State) -> None:
    generator = torch.Generator().manual_seed(3)
    x, y, z = (torch.randn(1001, dtype=torch.float64, generator=generator).to(state.dtype) for _ in range(3))
    ours = state.combine((0.3, -1.7, 0.11), (x, y, z), divisor=0.7)
    real = NUMPY[state.dtype]
    expected = (real(0.3) * x.numpy() + real(-1.7) * y.numpy() + real(0.11) * z.numpy()) / real(0.7)
    assert ours.dtype == state.dtype
    assert np.array_equal(ours.numpy(), expected)


@pytest.mark.parametrize("state", STATES, ids=repr)
def test_combine__sums_from_left_to_right(state: State) -> None:
    large = 1e30 if state.dtype != torch.float16 else 3e4
    one = torch.ones(3, dtype=state.dtype)
    assert torch.equal(state.combine((large, -large, 1.0), (one, one, one)), one)
    assert torch.equal(state.combine((1.0, large, -large), (one, one, one)), torch.zeros_like(one))


@pytest.mark.parametrize("state", STATES, ids=repr)
def test_combine__does_not_read_the_tensor_of_a_zero_coefficient(state: State) -> None:
    x = torch.ones(4, dtype=state.dtype)
    poison = torch.full((4,), float("nan"), dtype=state.dtype)
    assert torch.equal(state.combine((np.float32(2), 0, 0.0), (x, None, poison)), 2 * x)


@pytest.mark.parametrize("state", WIDE, ids=repr)
def test_cast__rounds_to_nearest_even(state: State) -> None:
    tie = torch.tensor([1 + 2.0**-24, 1 + 3 * 2.0**-24], dtype=torch.float64)
    expected = tie if state.dtype == torch.float64 else torch.tensor([1.0, 1 + 2.0**-22], dtype=torch.float32)
    assert torch.equal(state.cast(tie), expected)


@pytest.mark.parametrize("state", STATES, ids=repr)
def test_state__is_a_hashable_value(state: State) -> None:
    assert isinstance(state, State)
    assert type(state)() == state
    assert hash(type(state)()) == hash(state)


@pytest.mark.parametrize("state", STATES, ids=repr)
def test_combine__refuses_bad_input(state: State) -> None:
    x = torch.ones(2, dtype=state.dtype)
    with pytest.raises(BadInput, match="a coefficient other than 0"):
        state.combine((0.0,), (x,))
    with pytest.raises(BadInput, match=r"got None for coefficient 2\.0"):
        state.combine((1.0, 2.0), (x, None))
    other = torch.float16 if state.dtype != torch.float16 else torch.float32
    with pytest.raises(BadInput, match=f"got {other}"):
        state.combine((1.0,), (x.to(other),))
    with pytest.raises(ValueError, match="zip"):
        state.combine((1.0, 2.0), (x,))


@pytest.mark.parametrize("state", [Float16State(), BFloat16State()], ids=repr)
def test_combine__in_half_precision_rounds_every_operation_and_coefficient(state: State) -> None:
    generator = torch.Generator().manual_seed(3)
    x, y = (torch.randn(1001, generator=generator).to(state.dtype) for _ in range(2))

    def rounded(exact: torch.Tensor) -> torch.Tensor:  # float64 holds every product and sum of two such numbers
        return exact.to(state.dtype).double()

    a, b, d = (rounded(torch.tensor(v, dtype=torch.float64)) for v in (0.3, -1.7, 0.7))
    total = rounded(rounded(a * x.double()) + rounded(b * y.double()))
    assert torch.equal(state.combine((0.3, -1.7), (x, y)).double(), total)
    quotient = state.combine((0.3, -1.7), (x, y), divisor=0.7).double()
    assert torch.equal(quotient, rounded((total / d).float().double()))
