"""A working folder with a network of a few weights, and a study of it whose runs take milliseconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from studies.study.study import Axis, Study

OWN = """
import os
import torch
from torch import nn
from samplers.schedule import NoiseSchedule
from simulator import Model

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)
    def forward(self, x, timestep):
        return self.last(torch.relu(self.first(x)))

def factory():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Network()
    return Model(name="own", version=1, module=module, schedule=NoiseSchedule(), sample_shape=(1, 8, 8),
                 prediction_type="epsilon", weights_digest="")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """The working folder; what tests put on Python's path goes again."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "tiny_study_network.py").write_text(OWN)
    monkeypatch.chdir(tmp_path / "work")
    before = list(sys.path)
    yield tmp_path / "work"
    sys.path[:] = before
    sys.modules.pop("tiny_study_network", None)


@pytest.fixture
def study() -> Study:
    """Two schemes, two corrections, two seeds."""
    fixed = {
        "model": "tiny_study_network:factory", "num_inference_steps": 3, "samples": 4, "calibration_samples": 16,
        "eta": 1.0,
    }  # fmt: skip
    axes = (Axis({"scheme": ("w8a8", "w4a4")}), Axis({"correction": ("none", "ptqd")}), Axis({"seed": (0, 1)}))
    return Study("tiny", fixed=fixed, axes=axes)
