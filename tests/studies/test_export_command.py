"""``qnoise export-onnx``: what cannot be exported is one line and exit code 2 before any work; nothing is left behind.

What it writes is compared with ONNX Runtime in ``tests/peers/test_deployment_onnxruntime.py``.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from samplers.errors import BadInput
from studies import cli, export


def qnoise(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["qnoise", "export-onnx", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of packages that are there, whatever is installed; a run with them may not begin."""
    there = {"onnx", "onnxruntime"}
    monkeypatch.setattr("simulator.onnx_export.packages.find_spec", lambda name: name if name in there else None)

    def begun(*args: object, **options: object) -> None:
        raise AssertionError("calibration began")

    monkeypatch.setattr("simulator.calibration.trajectory.calibrate_ranges", begun)
    return there


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["digits-vae"], "digits-unet"),
        (["digits-unet", "--scheme", "w3q8"], "wXaY"),
        (["digits-unet", "--scheme", "w4a8"], "export w8a8"),
        (["digits-unet", "--scheme", "w8g32a8"], "export w8a8"),
        (["digits-unet", "--scheme", "w8a8-floor"], "export w8a8"),
        (["digits-unet", "--steps", "0"], "at least 1"),
        (["digits-unet", "--steps", "1001"], "1000"),
        (["digits-unet", "--sampler", "ddpm", "--eta", "0.5"], "eta belongs to ddim"),
        (["digits-unet", "--calibration-samples", "0"], "at least 1"),
        (["digits-unet", "--check", "100000000"], "at most"),
        (["digits-unet", "--output", "absent/a.onnx"], "writable folder"),
        (["digits-unet", "--output", "."], "replaces no file"),
        (["digits-unet", "--output", ".", "--replace"], "must be a file"),
    ],
)
def test_export_onnx__bad_input_is_one_line_and_exit_code_2_with_nothing_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path, packages: set[str],
    arguments: list[str], says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert qnoise(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("qnoise: ")
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("absent", "more"), [("onnx", []), ("onnxruntime", ["--check", "1"])])
def test_export_onnx__needs_its_packages_before_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path, packages: set[str], absent: str,
    more: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    packages.remove(absent)
    assert qnoise(monkeypatch, "digits-unet", *more) == 2
    error = capsys.readouterr().err
    assert f"the package {absent}, got none; pip install 'qnoise[onnx]'" in error
    assert list(tmp_path.iterdir()) == []


def test_export_onnx__replaces_no_file_unasked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path, packages: set[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits-unet-w8a8.onnx").write_text("mine")
    assert qnoise(monkeypatch, "digits-unet@1") == 2
    assert "replaces no file unasked, got digits-unet-w8a8.onnx" in capsys.readouterr().err
    assert (tmp_path / "digits-unet-w8a8.onnx").read_text() == "mine"


def test_publish__leaves_the_old_file_or_the_whole_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    export._publish(path, b"first", replace=False)
    with pytest.raises(BadInput, match="replaces no file"):  # one that appeared meanwhile
        export._publish(path, b"second", replace=False)
    assert path.read_bytes() == b"first"
    export._publish(path, b"second", replace=True)
    assert path.read_bytes() == b"second"

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("studies.export.os.fsync", full)
    with pytest.raises(BadInput, match="No space left"):
        export._publish(path, b"third", replace=True)
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(find_spec("onnx") is not None, reason="the package is there")
def test_export_onnx__without_onnx_is_the_typed_error_for_real(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert qnoise(monkeypatch, "digits-unet") == 2
    assert "needs the package onnx" in capsys.readouterr().err
