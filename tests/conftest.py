"""Fixtures that several folders share: a fresh interpreter, and a small random network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

# A first call compiles for seconds, and a search that changes between runs cannot be bisected.
settings.register_profile(
    "qnoise", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("qnoise")

PEERS = ROOT / "tests" / "peers"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out ``tests/peers``, which has an environment of its own, unless the command line names it."""
    if collection_path != PEERS:
        return None
    named = (config.invocation_params.dir / argument.split("::")[0] for argument in config.invocation_params.args)
    return None if any(path.resolve().is_relative_to(PEERS) for path in named) else True


Fresh = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def fresh_python() -> Fresh:
    """Run code in a fresh interpreter; keywords set environment variables, None removes one."""

    def run(code: str, *, timeout: float = 240, **variables: str | None) -> subprocess.CompletedProcess:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        changes = {"PYTHONPATH": path, "NUMBA_NUM_THREADS": "1", **variables}
        environment = {**os.environ, **{k: v for k, v in changes.items() if v is not None}}
        for name in (name for name, value in changes.items() if value is None):
            environment.pop(name, None)
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """One thread for torch and the kernels: float bits are stated, and tiny loops do not wait for other processes."""
    from simulator.arithmetic.kernels import accelerate
    from simulator.threads import get_threads, set_threads

    before = get_threads()
    accelerate.set_threads(1)  # starts the kernels' pool, which may set torch's count too, so torch comes second
    set_threads(1)
    yield
    set_threads(before)


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Put back the thread counts that a test changes: a command sets those of its process, and many run in this one."""
    before = _thread_counts()
    yield
    after = _thread_counts()
    if before is not None and after is not None and after != before:
        from simulator.arithmetic.kernels import accelerate
        from simulator.threads import set_threads

        set_threads(before[0])
        accelerate.set_threads(before[1])


def _thread_counts() -> tuple[int, int] | None:
    """Of torch and of the kernels, None where they have not been imported yet."""
    threads = sys.modules.get("simulator.threads")
    return None if threads is None else (threads.get_threads(), threads.accelerate.get_threads())


@pytest.fixture(scope="session")
def tiny_model():
    """A seeded convolution and attention network for (1, 8, 8) samples, as a registry Model."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from samplers.schedule import NoiseSchedule
    from simulator.models.registry import Model

    class TinyNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Sequential(nn.Linear(8, 12), nn.SiLU(), nn.Linear(12, 12))
            self.first = nn.Conv2d(1, 12, 3, padding=1)
            self.down = nn.Conv2d(12, 12, 3, stride=2, padding=1)
            self.norm = nn.GroupNorm(3, 12)
            self.qkv = nn.Linear(12, 36)
            self.proj = nn.Linear(12, 12)
            self.last = nn.Conv2d(12, 1, 3, padding=1)

        def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            angle = timestep[:, None].float() * torch.tensor([1.0, 0.1, 0.01, 0.001])
            time = self.embed(torch.cat([angle.sin(), angle.cos()], dim=1))
            wide = F.silu(self.first(x) + time[:, :, None, None])
            h = self.norm(self.down(wide))
            tokens = h.flatten(2).transpose(1, 2)
            q, k, v = self.qkv(tokens).unflatten(-1, (3, 2, 6)).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            h = h + self.proj(mixed).transpose(1, 2).reshape(h.shape)
            return self.last(wide + F.interpolate(h, scale_factor=2.0))

    with torch.random.fork_rng():
        torch.manual_seed(20)
        module = TinyNet().eval().requires_grad_(False)
    return Model("tiny", 1, module, NoiseSchedule(), (1, 8, 8), "epsilon", "0" * 64)
