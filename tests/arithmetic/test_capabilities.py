"""Claim: a process says which kernels it uses, and each field follows what it was told."""

from __future__ import annotations

import json

import pytest

from simulator.arithmetic.kernels import accelerate, paths

SAY = """
import dataclasses, json
from simulator.arithmetic import capabilities
from simulator.arithmetic.kernels import accelerate
accelerate.set_threads({threads})
print(json.dumps(dataclasses.asdict(capabilities())))
"""


@pytest.fixture
def said(fresh_python, tmp_path):
    def ask(threads=1, **variables):
        return json.loads(fresh_python(SAY.format(threads=threads), QNOISE_CACHE_DIR=str(tmp_path), **variables).stdout)

    return ask


def test_capabilities__name_path_cpu_threads_runtime_and_cache(said, tmp_path):
    found = said(2, NUMBA_NUM_THREADS="4", QNOISE_KERNEL_PATH="portable")
    assert set(found) == {"kernel_path", "cpu", "threads", "threading", "compiled", "cache"}
    assert found["kernel_path"] == "portable"
    assert found["cpu"]
    assert found["cache"].startswith(str(tmp_path))
    assert found["compiled"] is True
    if accelerate.PARALLEL:
        assert found["threads"] == 2
        assert found["threading"] in ("openmp", "tbb")
    else:
        assert (found["threads"], found["threading"]) == (1, "one thread")


def test_capabilities__choose_the_best_path_and_say_where_nothing_is_compiled(said):
    assert said()["kernel_path"] == paths.PATH
    assert said(NUMBA_DISABLE_JIT="1")["compiled"] is False
