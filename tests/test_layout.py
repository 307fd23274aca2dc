"""The layout is what the documentation says: right imports left only, and heavy packages stay where they belong."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ORDER = ("samplers", "simulator", "noise_models", "studies")
ROOT = Path(__file__).resolve().parents[1]


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            yield node.module or ""


@pytest.mark.parametrize("package", ORDER)
def test_packages__import_only_to_their_left(package: str) -> None:
    right = set(ORDER[ORDER.index(package) + 1 :])
    for path in modules(package):
        assert not {name.split(".")[0] for name in imports(path)} & right, path


def test_matplotlib__is_imported_by_studies_only() -> None:
    for package in ORDER[:-1]:
        for path in modules(package):
            assert not any(name.startswith("matplotlib") for name in imports(path)), path


def test_numba__is_imported_by_the_kernels_only() -> None:
    for package in ORDER:
        for path in modules(package):
            if "kernels" not in path.parts:
                assert not any(name.startswith(("numba", "llvmlite.ir")) for name in imports(path)), path


def test_arithmetic__takes_only_errors_from_samplers_and_no_torch() -> None:
    for path in (ROOT / "simulator" / "arithmetic").rglob("*.py"):
        for name in imports(path):
            assert not name.startswith(("torch", "xarray")), path
            assert not name.startswith("samplers") or name == "samplers.errors", path
            assert not name.startswith("simulator") or name.startswith("simulator.arithmetic"), path


def test_targets__take_errors_and_the_arithmetic_alone() -> None:
    for path in (ROOT / "simulator" / "targets").rglob("*.py"):
        for name in imports(path):
            assert not name.startswith(("torch", "xarray", "numba")), path
            assert not name.startswith("samplers") or name == "samplers.errors", path
            assert not name.startswith("simulator") or name.startswith(("simulator.arithmetic", "simulator.targets"))


def test_pickle__is_imported_nowhere() -> None:
    for package in ORDER:
        for path in modules(package):
            assert not {"pickle", "joblib", "shelve", "marshal"} & {name.split(".")[0] for name in imports(path)}, path


@pytest.mark.parametrize("package", ORDER)
def test_packages__import_nothing_heavy_until_used(package: str) -> None:
    script = (
        f"import sys, {package}\n"
        "heavy = {'numpy', 'torch', 'numba', 'xarray', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("package", ORDER[:3])
def test_packages__every_public_name_loads(package: str) -> None:
    module = __import__(package)
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("package", [*ORDER[:3], "simulator.arithmetic"])
def test_packages__show_every_public_name_to_readers_of_their_source(package: str) -> None:
    """Type checkers and the API reference run nothing: they see what stands under TYPE_CHECKING."""
    path = ROOT.joinpath(*package.split(".")) / "__init__.py"
    (block,) = (node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body for alias in getattr(node, "names", ())}
    assert seen == set(importlib.import_module(package).__all__)


def test_pyproject__lists_every_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in ("samplers", "simulator", "noise_models", "studies")
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert set(listed) == found
