"""One place sets the threads of torch and of the kernels together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from samplers.errors import BadInput
from simulator.arithmetic.kernels import accelerate


def set_threads(count: int) -> None:
    """Run torch's float operations and the integer kernels on ``count`` threads.

    Integer results do not depend on it; some of torch's float operations do in their last bit, so the count is part of
    a run's key.
    """
    if count < 1:
        raise BadInput("threads must be at least 1", got=count, fix="use 1, or the number of cores")
    accelerate.set_threads(count)
    torch.set_num_threads(count)  # last: whatever the kernels' runtime did to OpenMP's count is undone


def get_threads() -> int:
    """Threads of torch's float operations."""
    return torch.get_num_threads()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run with ``count`` torch threads and give the caller's count back."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
