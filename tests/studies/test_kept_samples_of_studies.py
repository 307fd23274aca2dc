"""Claim: a study's run keeps as many samples whole as it is told to, and another number is another run."""

from __future__ import annotations

import numpy as np
import pytest

from samplers.errors import BadInput
from studies.study.configurations import Configurations
from studies.study.spec import RunSpec
from studies.study.workshop import Workshop


def test_run_spec__keep_is_at_most_the_samples() -> None:
    with pytest.raises(BadInput, match="keep must be at most 3, the run's samples"):
        RunSpec(scheme="w8a8", samples=3, keep=4)


def test_workshop__keeps_the_first_samples(one_thread) -> None:
    spec = RunSpec(scheme="w8a8", num_inference_steps=2, samples=3, calibration_samples=8, keep=2)
    run = Workshop().run(spec)
    assert run["noise_kept_injected"].sizes["kept"] == 2
    assert np.isfinite(run["epsilon_kept"]).all()
    assert int(run["keep"]) == 2
    configurations = Configurations()
    plain = RunSpec(scheme="w8a8", num_inference_steps=2, samples=3, calibration_samples=8)
    assert configurations.key(plain) != configurations.key(spec)
