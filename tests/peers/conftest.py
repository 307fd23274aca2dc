"""The report of a run against peers: which of them were there, and in which version."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest

PEERS = (
    "torch",
    "onnx",
    "onnxruntime",
    "ai-edge-litert",
    "ml_dtypes",
    "gfloat",
    "torchao",
    "auto-gptq",
    "autoawq",
)


def found(name: str) -> str:
    """A peer's version, or that it is absent."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line of versions, and the number of skipped tests, whose reasons follow."""
    terminalreporter.write_line("peers: " + ", ".join(f"{name} {found(name)}" for name in PEERS))
    terminalreporter.write_line(f"skipped tests: {len(terminalreporter.stats.get('skipped', []))}")
