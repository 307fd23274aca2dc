"""Claim: threads, compiler, threading runtime, cache folder, CPU path and torch change no bit of an integer result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import contraction_problems
import numpy as np
import pytest
from contraction_problems import random_batched, random_conv, random_linear

from simulator.arithmetic.kernels import accelerate, paths

HELPERS = str(Path(contraction_problems.__file__).parent)

COMPUTE = f"""
import sys, hashlib
sys.path.insert(0, {HELPERS!r})
import numpy as np
from contraction_problems import random_batched, random_conv, random_linear
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.operands import ScaledFormat, quantize_image, quantize_matrices
from simulator.arithmetic.quantizer import QuantSpec, quantize
from simulator.arithmetic.rounding import Rounding

def contraction_digest():
    rng = np.random.default_rng(11)
    total = hashlib.sha256()
    for _ in range(6):
        for make in (random_conv, random_linear, random_batched):
            total.update(make(rng).engine().tobytes())
    return total.hexdigest()

def digest():
    rng = np.random.default_rng(10)
    total = hashlib.sha256(contraction_digest().encode())
    x = (rng.normal(size=(2, 9, 7, 5)) * 3).astype(np.float32)
    for rounding in Rounding:
        spec = QuantSpec(IntFormat(8), rounding=rounding)
        how = ScaledFormat(spec, np.float32(0.02), 5)
        image = quantize_image(x, how, Geometry.of(2, padding=(1, 2)))
        matrix = quantize_matrices(x[0], how, side="right")
        plain = quantize(x, spec, np.full((1,) * 4, 0.02, np.float32), np.full((1,) * 4, 5))
        for part in (image.bytes, matrix.bytes, plain.codes):
            total.update(part.tobytes())
        total.update(str((image.clipped, matrix.clipped, plain.clipped)).encode())
    return total.hexdigest()
"""
PRINT = COMPUTE + "\nprint(digest())"


@pytest.fixture(scope="module")
def computed() -> dict:
    scope: dict = {}
    exec(COMPUTE, scope)
    return scope


@pytest.fixture(scope="module")
def expected(computed):
    return computed["digest"]()


def test_engine__gives_the_same_bits_for_1_2_and_16_threads(fresh_python, expected):
    code = COMPUTE + textwrap.dedent(
        """
        import json, numba
        from simulator.arithmetic.kernels import accelerate
        found = {}
        for threads in (1, 2, 16):
            accelerate.set_threads(threads)
            found[numba.get_num_threads()] = digest()
        print(json.dumps(found))
        """
    )
    found = json.loads(fresh_python(code, NUMBA_NUM_THREADS="16", OMP_NUM_THREADS=None).stdout)
    if accelerate.PARALLEL:
        assert set(found) == {"1", "2", "16"}
    assert set(found.values()) == {expected}


def test_engine__gives_the_same_bits_without_the_compiler(fresh_python, expected):
    assert fresh_python(PRINT, NUMBA_DISABLE_JIT="1").stdout.strip() == expected


@pytest.mark.parametrize("path", paths.NEEDS)
def test_engine__gives_the_same_bits_on_every_path_this_cpu_supports(fresh_python, computed, path):
    if path not in paths.supported_paths():
        pytest.skip(f"this CPU has no {path}")
    code = "\nfrom simulator.arithmetic.kernels import accelerate, contract, paths, tile\n" + textwrap.dedent(
        """
        assert contract.tile is tile.TILES[paths.PATH].tile
        print(paths.PATH, accelerate.cache_folder().name)
        """
    )
    code = COMPUTE + "\nprint(contraction_digest())" + code
    found, chosen, folder = fresh_python(code, QNOISE_KERNEL_PATH=path).stdout.split()
    assert (found, chosen) == (computed["contraction_digest"](), path)
    # a cached caller holds the tile of its own path
    assert (folder == accelerate.cache_folder().name) == (path == paths.PATH)


def test_quantizers_and_registers__run_in_kernels_that_have_no_path(fresh_python):
    """What a path names is the tile alone: kernels that do not load it are the same code on every path."""
    code = """
    import sys
    from simulator.arithmetic.kernels import accumulate, quantize, requantize, rules, saturate, saturate_pairs
    print("simulator.arithmetic.kernels.tile" in sys.modules)
    from simulator.arithmetic.kernels import contract
    print("simulator.arithmetic.kernels.tile" in sys.modules)
    """
    assert fresh_python(textwrap.dedent(code)).stdout.split() == ["False", "True"]


@pytest.mark.slow
@pytest.mark.parametrize("path", paths.NEEDS)
def test_quantizers__give_the_same_bits_on_every_path_this_cpu_supports(fresh_python, expected, path):
    if path not in paths.supported_paths():
        pytest.skip(f"this CPU has no {path}")
    assert fresh_python(PRINT, QNOISE_KERNEL_PATH=path).stdout.strip() == expected


def test_engine__gives_the_same_bits_on_pairs_without_the_compiler(fresh_python, expected):
    found = fresh_python(PRINT, QNOISE_KERNEL_PATH="portable", NUMBA_DISABLE_JIT="1").stdout
    assert found.strip() == expected


def test_engine__refuses_a_path_it_does_not_have_and_lists_those_it_has(fresh_python):
    code = """
    from samplers.errors import BadInput
    try:
        import simulator.arithmetic.contract
    except BadInput as error:
        print(error)
    """
    said = fresh_python(textwrap.dedent(code), QNOISE_KERNEL_PATH="avx1024").stdout
    assert "got 'avx1024'" in said
    assert ", ".join(paths.supported_paths()) in said


NO_RUNTIME = """
import sys
sys.modules["numba.np.ufunc.omppool"] = sys.modules["numba.np.ufunc.tbbpool"] = None
"""


def test_engine__runs_on_one_thread_without_a_threading_runtime_and_says_so_once(fresh_python, expected):
    code = NO_RUNTIME + textwrap.dedent(
        """
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
        """
    )
    body = PRINT + "\nfrom simulator.arithmetic.kernels import accelerate\naccelerate.set_threads(2)"
    code += textwrap.indent(body, "    ")
    code += "\nprint([str(w.message) for w in caught if w.category is RuntimeWarning])\nprint(accelerate.PARALLEL)"
    digest, warned, parallel = fresh_python(code).stdout.strip().splitlines()
    assert digest == expected
    assert parallel == "False"
    messages = json.loads(warned.replace("'", '"'))
    assert len(messages) == 1
    assert "one thread" in messages[0]


def test_engine__warns_on_stderr_exactly_once_under_the_default_filters(fresh_python):
    errors = fresh_python(NO_RUNTIME + PRINT).stderr
    assert errors.count("RuntimeWarning") == 1
    assert "libgomp" in errors


ONE_KERNEL = """
import numpy as np
from simulator.arithmetic.kernels import accelerate
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.quantizer import QuantSpec, quantize
print(quantize(np.array([1.5, 2.5], np.float32), QuantSpec(IntFormat(8)), np.ones(1, "f4"), np.zeros(1, "i4")).codes)
print(accelerate.cache_folder())
"""

# a loop of elements, and one that calls kernels compiled before it
TWO_KERNELS = """
import numpy as np
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.kernels.accumulate import accumulate
from simulator.arithmetic.quantizer import QuantSpec, quantize
print(quantize(np.array([1.5, 2.5], np.float32), QuantSpec(IntFormat(8)), np.ones(1, "f4"), np.zeros(1, "i4")).codes)
x, none, out = np.array([[3, 4]], np.int8), np.zeros(1, np.int64), np.empty((1, 1), np.int64)
accumulate(x, np.array([[5, 5]], np.int8), 0, none, 1, 0, 0, 0, none, none, False, out)
print(out.item())
"""


def test_cache__is_made_in_the_folder_asked_for_and_used_again(fresh_python, tmp_path):
    for _ in range(2):
        codes, folder = fresh_python(ONE_KERNEL, QNOISE_CACHE_DIR=str(tmp_path)).stdout.strip().splitlines()
        assert codes == "[2 2]"
        assert Path(folder).parent == tmp_path / "qnoise"
        files = sorted(p.name for p in Path(folder).rglob("*.nb*"))
        assert any("quantize_elementwise" in name for name in files)
    assert sorted(p.name for p in Path(folder).rglob("*.nb*")) == files


def test_cache__falls_back_to_the_users_cache_folder(fresh_python, tmp_path):
    out = fresh_python(ONE_KERNEL, QNOISE_CACHE_DIR=None, XDG_CACHE_HOME=str(tmp_path)).stdout
    assert Path(out.strip().splitlines()[1]).parent == tmp_path / "qnoise"


def test_cache__is_done_without_where_its_folder_cannot_be_made(fresh_python, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    done = fresh_python(ONE_KERNEL, QNOISE_CACHE_DIR=str(file))
    assert done.stdout.split("\n")[:2] == ["[2 2]", "None"]
    assert done.stderr == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_cache__is_done_without_where_its_folder_is_read_only(fresh_python, tmp_path):
    tmp_path.chmod(0o500)
    assert fresh_python(ONE_KERNEL, QNOISE_CACHE_DIR=str(tmp_path)).stdout.split("\n")[1] == "None"


@pytest.mark.slow
def test_engine__compiles_into_a_cold_cache_in_two_processes_at_once_with_the_same_bits(tmp_path, expected):
    root = str(Path(accelerate.__file__).resolve().parents[3])
    environment = {**os.environ, "PYTHONPATH": root, "QNOISE_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", PRINT]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert {process.communicate(timeout=240)[0].strip() for process in running} == {expected}


def test_accelerate__leaves_the_hosts_numba_cache_folder_as_it_was(fresh_python, tmp_path):
    code = "from numba import config\nfrom simulator.arithmetic import contract\nprint(config.CACHE_DIR)"
    host = str(tmp_path / "host")
    assert fresh_python(code, NUMBA_CACHE_DIR=host).stdout.strip() == host


def test_arithmetic__runs_where_torch_and_xarray_cannot_be_imported(fresh_python, expected):
    code = textwrap.dedent(
        """
        import sys
        sys.modules["torch"] = sys.modules["xarray"] = None
        import importlib, pkgutil
        import simulator.arithmetic
        for module in pkgutil.walk_packages(simulator.arithmetic.__path__, "simulator.arithmetic."):
            importlib.import_module(module.name)
        """
    )
    assert fresh_python(code + PRINT).stdout.strip() == expected


@pytest.mark.parametrize("seed", range(3))
def test_engine__does_not_depend_on_the_neighbours_of_a_row(seed):
    # a chunk of rows holds memory of the last one; none of it may leak into a result
    rng = np.random.default_rng(seed)
    for make in (random_conv, random_linear, random_batched):
        problem = make(rng)
        first = problem.engine()
        make(rng).engine()
        assert np.array_equal(problem.engine().view(np.int32), first.view(np.int32))


def truncate_and_run(fresh_python, folder, code, ending):
    """What ``code`` prints from a cache whose files of this ending are cut in half; each must be written again."""
    files = list(folder.rglob(f"*.{ending}"))
    assert files
    halves = {file: file.stat().st_size // 2 for file in files}
    for file, size in halves.items():
        file.write_bytes(file.read_bytes()[:size])
    printed = fresh_python(code, QNOISE_CACHE_DIR=str(folder)).stdout
    assert all(file.stat().st_size > size for file, size in halves.items())
    return printed


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_cache__that_is_truncated_is_built_again(fresh_python, tmp_path, ending):
    assert fresh_python(TWO_KERNELS, QNOISE_CACHE_DIR=str(tmp_path)).stdout == "[2 2]\n35\n"
    assert truncate_and_run(fresh_python, tmp_path, TWO_KERNELS, ending) == "[2 2]\n35\n"


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_cache__of_every_kernel_that_is_truncated_is_built_again(fresh_python, tmp_path, expected, ending):
    assert fresh_python(PRINT, QNOISE_CACHE_DIR=str(tmp_path)).stdout.strip() == expected
    assert truncate_and_run(fresh_python, tmp_path, PRINT, ending).strip() == expected
