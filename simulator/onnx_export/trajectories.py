"""A deployed sampler against the simulated one: every pass of the runtime's trajectory, then the final samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samplers.loop import sample
from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.sites import SiteKey
from simulator.onnx_export.comparison import Comparison, SiteComparison, compare
from simulator.onnx_export.network import run_deployed
from simulator.onnx_export.runtime import Session


@dataclass(frozen=True)
class Pass:
    """One sample at one timestep, both networks on the runtime's x_t."""

    sample: int
    timestep: int
    comparison: Comparison


@dataclass(frozen=True)
class FirstOperand:
    """An operand at which differences begin.

    Attributes:
        site: its site.
        role: which operand.
        passes: in how many passes it is the first whose codes differ.
        codes: how many codes of it differ, over these passes.
        largest: the largest difference between two codes at the site.
        from_tie: how far at most the simulator's float is from a tie where codes differ, in steps.
    """

    site: SiteKey
    role: str
    passes: int
    codes: int
    largest: int
    from_tie: float


@dataclass(frozen=True)
class Trajectories:
    """What a comparison along trajectories found.

    Attributes:
        passes: of every step and sample.
        samples: how many samples were drawn.
        unequal: how many final samples of the two samplers, each on its own trajectory, have other bits.
        largest: largest absolute difference of a pixel of the final samples.
    """

    passes: tuple[Pass, ...]
    samples: int
    unequal: int
    largest: float

    @property
    def elements(self) -> int:
        """Output codes compared, of all sites and passes."""
        return sum(site.elements for one in self.passes for site in one.comparison.sites)

    @property
    def mismatches(self) -> int:
        """How many of them differ, given the same operands."""
        return sum(site.mismatches for one in self.passes for site in one.comparison.sites)

    @property
    def firsts(self) -> tuple[FirstOperand, ...]:
        """Every difference of the whole networks by the operand where it begins, the most frequent first."""
        found: dict[tuple[SiteKey, str], list[SiteComparison]] = {}
        for one in self.passes:
            if first := one.comparison.first:
                site, role = first
                found.setdefault((site.key, role), []).append(site)
        rows = [
            FirstOperand(
                key, role, len(sites), sum(site.operands[role] for site in sites), max(site.largest for site in sites),
                max(site.from_tie for site in sites),
            )
            for (key, role), sites in found.items()
        ]  # fmt: skip
        return tuple(sorted(rows, key=lambda row: -row.passes))


def compare_trajectories(
    quantized: QuantizedModel,
    session: Session,
    sampler: Sampler,
    *,
    samples: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Trajectories:
    """Sample with ONNX Runtime, compare each of its passes with the simulator's on the same x_t; then sample with that.

    Noise is that of the stream "evaluate". Samples are compared one by one, so that each difference is traced to its
    own first operand.
    """
    members, shape = range(samples), quantized.model.sample_shape
    passes: list[Pass] = []

    def deployed(x: Tensor, timestep: Tensor) -> Tensor:
        for n in members:
            one = slice(n, n + 1)
            passes.append(Pass(n, int(timestep[n]), compare(quantized, session, x[one], timestep[one])))
        if progress is not None:
            progress(len(passes) // samples, len(sampler.updates))
        return torch.from_numpy(session({"x": x.numpy(), "timestep": timestep.numpy()}))

    def simulated(x: Tensor, timestep: Tensor) -> Tensor:
        return run_deployed(quantized, session.sites, x, timestep)

    theirs, ours = (
        sample(network, sampler, NoiseStream(seed, "evaluate"), members, shape).numpy()
        for network in (deployed, simulated)
    )
    off = np.abs(theirs - ours).reshape(samples, -1)
    return Trajectories(tuple(passes), samples, int(np.count_nonzero(off.max(axis=1))), float(off.max()))
