"""Claim: docs/formats.md and docs/targets.md are what the generator writes from the values, the peers they name are
those that the tests compare with, and only verified targets are called bit-exact."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from simulator.arithmetic.requantize import REQUANTIZERS
from simulator.targets import TARGETS, Evidence

ROOT = Path(__file__).resolve().parents[2]


def load(path):
    """A file of the repository as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generator():
    """docs/generate_tables.py; the path it adds for running as a script is taken off again."""
    before = list(sys.path)
    made = load(ROOT / "docs" / "generate_tables.py")
    sys.path[:] = before
    return made


@pytest.mark.parametrize("name", ["formats.md", "targets.md"])
def test_page__is_what_the_generator_writes(generator, name):
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == generator.PAGES[name]()


def test_formats__name_the_peers_that_the_test_compares_with(generator):
    test = load(ROOT / generator.ELEMENTS)
    compared = {"ml_dtypes": test.ML_DTYPES, "gfloat": test.GFLOAT, "torch": test.TORCH}
    for name, formats in compared.items():
        named = {fmt for fmt, peers in generator.FLOAT_PEERS.items() if name in peers}
        assert named == {fmt.name for fmt in formats}, name
    torchao = {fmt for fmt, peers in generator.BLOCK_PEERS.items() if "torchao" in peers}
    assert torchao == {fmt.name for fmt in test.TORCHAO} | {"NVFP4"}


def test_targets__verified_against_a_pinned_version_name_that_version(generator):
    for target in TARGETS.values():
        if target.evidence is Evidence.VERIFIED:
            peer = next(name for name in ("torch", "onnxruntime", "ai-edge-litert") if target.peer.startswith(name))
            assert f"{peer} {generator.version_of(peer)}" in target.peer


def test_targets_page__has_a_section_per_target_and_a_row_per_requantizer(generator):
    page = generator.PAGES["targets.md"]()
    assert re.findall(r"^## (\S+)$", page, re.MULTILINE)[-len(TARGETS) :] == list(TARGETS)
    for name in REQUANTIZERS:
        assert f"\n| `{name}` | " in page
    for target in TARGETS.values():
        for text in (target.peer, *target.unspecified, *target.proof.where):
            assert text.replace("|", "\\|") in page


def test_docs__link_to_both_pages():
    for page, prefix in ((ROOT / "README.md", "docs/"), (ROOT / "docs" / "quantized-matmul.md", "")):
        text = page.read_text(encoding="utf-8")
        assert f"({prefix}formats.md)" in text
        assert f"({prefix}targets.md)" in text
