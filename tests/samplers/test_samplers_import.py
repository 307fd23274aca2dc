"""Claim: the package exports every name it lists, and schedules and coefficients load neither torch nor scipy."""

import subprocess
import sys
from pathlib import Path

import pytest

import samplers

ROOT = Path(samplers.__file__).parents[1]


def test_samplers__every_listed_name_loads() -> None:
    for name in samplers.__all__:
        assert getattr(samplers, name).__name__ == name
        assert name in dir(samplers)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = samplers.nothing


def test_samplers__coefficients_need_neither_torch_nor_scipy() -> None:
    code = (
        "import sys, samplers\n"
        "assert 'numpy' not in sys.modules\n"
        "schedule = samplers.NoiseSchedule()\n"
        "updates = samplers.DDIM(schedule, 20, eta=1.0).updates + samplers.DDPM(schedule, 20).updates\n"
        "kinds = samplers.PLMS, samplers.Euler, samplers.EulerAncestral, samplers.Heun, samplers.DPMSolver\n"
        "assert all(kind(schedule, 20).updates for kind in kinds)\n"
        "assert all(u.a > 0 for u in updates) and updates[3].with_noise(0.1).c == 0.1\n"
        "assert not {'torch', 'scipy', 'diffusers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
