"""Claim: one call sets the threads of torch and of the kernels, and starting the kernels' pool does not undo it."""

from __future__ import annotations

import json
import os
import textwrap

import pytest

from samplers.errors import BadInput
from simulator.threads import set_threads

CALL_A_KERNEL = """
import json, numpy as np, torch, numba
from simulator.threads import get_threads, set_threads
def kernel():
    from simulator.moments import row_moments
    row_moments(np.zeros((3, 40)), np.zeros((3, 40)))
counts = []
torch.get_num_threads()  # torch settles its own count at the first use, as any model does that runs first
"""

several = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core")


@pytest.mark.parametrize("wanted", [1, 2])
@several
def test_set_threads__holds_for_torch_and_kernels_after_the_first_call_and_after_the_first_kernel(fresh_python, wanted):
    code = CALL_A_KERNEL + textwrap.dedent(
        f"""
        set_threads({wanted})
        counts.append([torch.get_num_threads(), get_threads(), numba.get_num_threads()])
        kernel()
        counts.append([torch.get_num_threads(), get_threads(), numba.get_num_threads()])
        print(json.dumps(counts))
        """
    )
    out = fresh_python(code, OMP_NUM_THREADS="2", NUMBA_NUM_THREADS="2").stdout
    assert json.loads(out) == [[wanted] * 3] * 2


@several
def test_first_kernel__leaves_torchs_thread_count_alone(fresh_python):
    # a run's key states the count before the first kernel has run
    code = CALL_A_KERNEL + "before = get_threads()\nkernel()\nprint(json.dumps([before, get_threads()]))"
    before, after = json.loads(fresh_python(code, OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="2").stdout)
    assert before == after == 1


@pytest.mark.parametrize("count", [0, -1])
def test_set_threads__refuses_less_than_one(count):
    with pytest.raises(BadInput, match="threads"):
        set_threads(count)
