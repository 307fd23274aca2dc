"""A small training set, and settings that take a second."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.calibration.training.data import TrainingSet
from simulator.calibration.training.settings import FineTuning

BRIEF = FineTuning(
    steps=6, batch_size=8, learning_rate=1e-3, scale_rate=1e-2, warmup_steps=2, evaluate_every=2, draws=16,
    start_samples=8,
)  # fmt: skip


@pytest.fixture(scope="session")
def images() -> TrainingSet:
    random = np.random.default_rng(0)
    smooth = random.normal(size=(40, 1, 4, 4)).repeat(2, axis=2).repeat(2, axis=3)
    return TrainingSet(np.tanh(smooth).astype(np.float32), dropout=0.1)


@pytest.fixture(scope="session")
def brief() -> FineTuning:
    return BRIEF
