"""The examples run, write their figures, and find what their text claims: here with few steps and samples."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np
import pytest

from noise_models import sqnr_db

FOLDER = Path(__file__).resolve().parents[2] / "examples"

Run = Callable[[str], Any]


@pytest.fixture
def run_tiny(tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run an example from an empty folder; its figures must be there afterwards, not empty and not large."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *figures: str) -> Any:
        spec = importlib.util.spec_from_file_location(f"examples_{name}", FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        found = module.main(["--tiny", "--out", "figures"])
        written = {path.name: path.read_bytes() for path in Path("figures").iterdir()}
        assert set(written) == {f"{figure}.{suffix}" for figure in figures or (name,) for suffix in ("pdf", "png")}
        for path, content in written.items():
            assert 3_000 < len(content) < 100_000, path
            assert b"CreationDate" not in content, path
        return found

    return run


def test_narrow_machine__20_bits_lose_nothing_and_each_bit_less_never_helps(run_tiny: Run, capsys) -> None:
    found = run_tiny("narrow_machine")
    saturated = found.saturated.sum("site").values
    assert saturated[-1] == 0, "20 bits"
    assert saturated[0] > 0, "11 bits"
    assert (np.diff(saturated) <= 0).all()
    assert (found.enough_here <= found.enough_always).all(), "a certificate holds for every input, so for these too"
    assert found.enough_always.max() > 20, "what happened not to saturate is not proved"
    assert found.median_sqnr_db[-1] > found.median_sqnr_db[0] + 10
    printed = capsys.readouterr().out
    assert f"{int(found.enough_here.max())} bits: nothing saturates in these samples" in printed
    assert f"{int(found.enough_always.max())} bits: nothing saturates for any input" in printed


def test_fake_quant__agrees_with_exact_sums_to_rounding_and_with_nothing_else(run_tiny: Run, capsys) -> None:
    found = run_tiny("fake_quant_against_hardware")
    relative = {name: each.difference_power / each.noise_power for name, each in found.items()}
    flipped = {name: float(each.flipped.sum() / each.operands.sum()) for name, each in found.items()}
    assert float(relative["w8a8"].median()) < 1e-9, "float32 sums of real values against integers, 24 bits of mantissa"
    assert float(relative["w8a8-acc19"].max()) > 0.1
    assert float(relative["w8a8o8@onnxruntime"].min()) > 0.1, "8-bit outputs are noise of their own at every site"
    assert flipped["w8a8"] < 1e-3 < flipped["w8a8-acc19"] < 1 > flipped["w8a8o8@onnxruntime"] > 0.1
    printed = capsys.readouterr().out
    assert all(name in printed for name in found)


def test_heat_map__ranks_the_schemes_and_keeps_the_digits(run_tiny: Run, capsys) -> None:
    eight, four = run_tiny("heat_map", "heat_map", "heat_map_samples")
    noisier = sqnr_db(eight, "site_injected").sqnr_db - sqnr_db(four, "site_injected").sqnr_db
    weighted = eight.site_weight_bits != four.site_weight_bits
    assert int(weighted.sum()) == 31, "4 blocks of 7, 2 of the time embedding and the head's modulation"
    assert float(noisier[:, weighted.values].median()) > 6, "four bits are 24 dB of weights' noise, not of activations'"
    full, found = (eight[f"sample_{name}"].values for name in ("reference", "quantized"))
    per_sample = np.abs(found - full).mean(axis=(1, 2, 3))
    assert np.median(per_sample) < 0.05, "of a range of 2, the same digits to the eye; one may start outside the ranges"
    distances = ((found[:, None] - full[None]) ** 2).sum((2, 3, 4))
    assert (distances.argmin(axis=1) == np.arange(len(full))).all()
    assert "w8a8: final samples" in capsys.readouterr().out
