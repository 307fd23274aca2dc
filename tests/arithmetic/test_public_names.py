"""Claim: every name that ``simulator.arithmetic`` exports loads, none shares a module's name, and nothing heavy loads
before it is used."""

from __future__ import annotations

import pkgutil
import textwrap

import simulator.arithmetic as arithmetic


def test_arithmetic__exports_names_that_load():
    for name in arithmetic.__all__:
        assert getattr(arithmetic, name) is not None, name
    assert set(arithmetic.__all__) == set(dir(arithmetic))
    assert set(arithmetic._HOME) == set(arithmetic.__all__)


def test_arithmetic__exports_no_name_of_a_module():
    modules = {module.name for module in pkgutil.iter_modules(arithmetic.__path__)}
    assert not modules & set(arithmetic.__all__)


def test_arithmetic__loads_neither_numpy_nor_torch_until_a_name_is_used(fresh_python):
    code = """
        import sys
        import simulator.arithmetic as arithmetic
        assert not {"numpy", "numba", "torch", "xarray"} & set(sys.modules)
        for name in arithmetic.__all__:
            getattr(arithmetic, name)
        arithmetic.capabilities()
        assert not {"torch", "xarray"} & set(sys.modules)
        try:
            arithmetic.nothing
        except AttributeError as error:
            print(error)
    """
    assert "no attribute 'nothing'" in fresh_python(textwrap.dedent(code)).stdout
