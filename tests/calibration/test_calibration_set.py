"""Claim: a calibration set is checked data, and its batches hold every point once in a stated order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samplers.errors import BadInput
from simulator.calibration.collection.calibration_set import CalibrationSet
from simulator.calibration.collection.order import Mixed, OneStep


def small(**changes):
    parts = {
        "x": torch.arange(14.0).reshape(7, 2),
        "timestep": torch.tensor([90, 90, 90, 40, 40, 40, 10]),
        "step": torch.tensor([0, 0, 0, 2, 2, 2, 5]),
        "member": torch.tensor([0, 1, 2, 4, 3, 1, 0]),
        "source": {},
    }
    return CalibrationSet(**{**parts, **changes})


def test_one_step__runs_pass_k_of_every_step_before_pass_k_plus_1_of_any():
    batches = list(small().batches(2))
    assert [batch.x[:, 0].tolist() for batch in batches] == [[0, 2], [10, 8], [12], [4], [6]]
    assert [batch.one_step for batch in batches] == [0, 2, 5, 0, 2]
    assert [batch.member.tolist() for batch in batches] == [[0, 1], [1, 3], [0], [2], [4]]
    assert [batch.timestep.tolist() for batch in batches] == [[90, 90], [40, 40], [10], [90], [40]]


@pytest.mark.parametrize("order", [OneStep(), Mixed(), Mixed(1)])
@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_batches__hold_every_point_once_in_fresh_memory(order, size):
    points = small()
    batches = list(points.batches(size, order))
    assert max(len(batch.x) for batch in batches) <= size
    rows = torch.cat([batch.x[:, 0] / 2 for batch in batches]).long()
    assert sorted(rows.tolist()) == list(range(7))
    for name in ("timestep", "step", "member"):
        assert torch.equal(torch.cat([getattr(batch, name) for batch in batches]), getattr(points, name)[rows])
    batches[0].x.zero_()
    assert torch.equal(points.x, small().x)


def test_mixed__is_a_permutation_of_its_seed_in_passes_of_several_steps():
    orders = [[b.x[:, 0].tolist() for b in small().batches(3, Mixed(seed))] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert [len(batch) for batch in orders[0]] == [3, 3, 1]
    assert any(batch.one_step is None for batch in small().batches(3, Mixed()))


def test_digest__moves_with_every_tensor():
    other = {
        "x": torch.arange(1.0, 15.0).reshape(7, 2), "timestep": torch.tensor([91, 91, 91, 40, 40, 40, 10]),
        "step": torch.tensor([1, 1, 1, 2, 2, 2, 5]), "member": torch.tensor([0, 1, 2, 4, 3, 1, 1]),
    }  # fmt: skip
    digests = {small().digest, *(small(**{name: tensor}).digest for name, tensor in other.items())}
    assert len(digests) == 5
    assert small(source={"a": 1}).digest == small().digest


INDEX = torch.zeros(7, dtype=torch.long)
BAD_SETS = {
    "half": ({"x": torch.zeros(7, 2).half()}, "float32"),
    "array": ({"x": np.zeros((7, 2), np.float32)}, "float32"),
    "empty": ({"x": torch.zeros(0, 2)}, "n of at least 1"),
    "scalar": ({"x": torch.tensor(1.0)}, "n of at least 1"),
    "meta": ({"x": torch.zeros(7, 2, device="meta")}, "CPU"),
    "nan": ({"x": torch.full((7, 2), float("nan"))}, "finite"),
    "int32": ({"timestep": INDEX.int()}, "timestep must be int64"),
    "short": ({"step": INDEX[1:]}, "step must be int64"),
    "negative": ({"member": INDEX - 1}, "some negative"),
    "list": ({"member": [0] * 7}, "list"),
    "two timesteps": ({"timestep": torch.arange(7)}, "one timestep"),
    "source": ({"source": {"x": INDEX}}, "JSON"),
    "nan in source": ({"source": {"x": float("nan")}}, "JSON"),
}


@pytest.mark.parametrize("case", BAD_SETS)
def test_calibration_set__refuses_bad_input(case):
    changes, message = BAD_SETS[case]
    with pytest.raises(BadInput, match=message):
        small(**changes)


def test_batches__refuse_a_size_or_an_order_that_is_none():
    with pytest.raises(BadInput, match="size"):
        small().batches(0)
    with pytest.raises(BadInput, match="order"):
        small().batches(1, "mixed")
    with pytest.raises(BadInput, match="seed"):
        Mixed(-1)
