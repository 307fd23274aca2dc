"""Where a scheme's noise comes from: each source added in turn, and each operation alone.

At every step all passes see the full-precision trajectory's x_t. The ladder runs the network once per rung (weights,
integers, register, the complete scheme; ``simulator.instrument.rungs``) and keeps each rung's error against float and
against the rung before. Errors do not add in power: of two rungs ``P(e_k) = P(e_{k-1}) + P(added) + 2 cross``, and the
cross term is kept too. The local noise of a site is that of its operation alone, fed with float operands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from samplers.coefficients import timestep_array
from samplers.errors import BadInput
from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from samplers.state import FLOAT64
from samplers.validation import require_int
from simulator.correction import NoCorrection
from simulator.instrument.contractions import Contraction
from simulator.instrument.machines.machine import Emulated
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.rungs import Rung, ladder
from simulator.instrument.sites import SiteKey, watching
from simulator.models.conditioning import call_for
from simulator.moments import moment_names
from simulator.provenance import canonical, environment, run_config, run_key
from simulator.record import ChannelRecord, SiteRecord
from simulator.reference import Point, full_precision
from simulator.site_details import ByChannel, BySample, Extremes
from simulator.variables import BY_NAME


@torch.no_grad()
def attribute(
    quantized: QuantizedModel,
    sampler: Sampler,
    *,
    rungs: tuple[Rung, ...] | None = None,
    samples: int = 64,
    seed: int = 0,
    purpose: str = "evaluate",
    batch_size: int = 64,
    by_channel: bool = False,
    by_sample: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Noise per source, per site and per step, on the full-precision trajectory.

    Args:
        quantized: a network under the complete scheme.
        sampler: the sampler.
        rungs: in the order in which they are climbed; by default those of the ladder that differ for this scheme. The
            first is compared with float on both accounts.
        samples: number of samples.
        seed: of the noise stream.
        purpose: of the noise stream.
        batch_size: samples per forward pass.
        by_channel: keep the last rung's moments per channel of every site too, pooled over samples.
        by_sample: keep them per sample too; the only record whose memory grows with the samples.
        progress: called after each step with (steps done, steps in all).

    Returns:
        ``epsilon_rung``, ``epsilon_rung_added``, ``epsilon_rung_cross`` and the same of sites; ``site_local`` with its
        counts; extremes of each site's float and quantized output; what was asked for beside them. Definitions are in
        ``simulator.variables``.

    Raises:
        BadInput: no rung or one twice, sizes below 1, or a network that is not complete itself.
    """
    require_int("samples", samples, 1)
    require_int("batch_size", batch_size, 1)
    rungs = ladder(quantized.plan, len(sampler.updates)) if rungs is None else tuple(rungs)
    if not all(isinstance(rung, Rung) for rung in rungs):
        raise BadInput("rungs must be members of Rung", got=repr(rungs), fix="write Rung.WEIGHTS")
    if quantized.rung is not Rung.COMPLETE or not rungs or len(set(rungs)) < len(rungs):
        raise BadInput(
            "attribution climbs different rungs of a complete scheme",
            got=f"{[rung.value for rung in rungs]} of {quantized.rung.value}",
            fix="give the complete network, and each rung once",
        )
    work = _Attribution(quantized, sampler, rungs, samples, by_channel, by_sample)
    noise = NoiseStream(seed, purpose)
    batches = range(0, samples, batch_size)
    model = quantized.model
    with watching(model.module):
        for done, first in enumerate(batches):
            members = np.arange(first, min(first + batch_size, samples))
            call = call_for(model, quantized.conditioning, members)
            look = work.local(members)
            points = full_precision(model, quantized.allow_float, sampler, FLOAT64, noise, members, call, look)
            for point in points:
                work.climb(point)
                if progress is not None:
                    progress(done * len(sampler.updates) + point.step + 1, len(batches) * len(sampler.updates))
    settings = {
        "attribution": [rung.value for rung in rungs], "sampler": sampler.config(), "samples": samples, "seed": seed,
        "purpose": purpose, "batch_size": batch_size, "by_channel": by_channel, "by_sample": by_sample,
    }  # fmt: skip
    return work.dataset(run_config(quantized, NoCorrection(), quantized.conditioning, **settings))


class _Attribution:
    """Records under way."""

    def __init__(
        self, quantized: QuantizedModel, sampler: Sampler, rungs: tuple[Rung, ...], samples: int, by_channel: bool,
        by_sample: bool,
    ) -> None:  # fmt: skip
        steps, channels = len(sampler.updates), quantized.model.sample_shape[0]
        passes = 1 if quantized.conditioning is None else quantized.conditioning.passes

        def site_record() -> SiteRecord:
            return SiteRecord(steps, samples, quantized.sites, passes=passes)

        def epsilon_record() -> ChannelRecord:
            return ChannelRecord(steps, samples, channels)

        self._quantized, self._sampler, self._rungs = quantized, sampler, rungs
        self._networks = [quantized.on(rung) for rung in rungs]
        self._epsilon, self._epsilon_added = ([epsilon_record() for _ in rungs] for _ in range(2))
        self._sites, self._sites_added = ([site_record() for _ in rungs] for _ in range(2))
        self._local, self._extremes = site_record(), Extremes(steps, quantized.sites)
        self._by_channel = ByChannel(steps, quantized.sites) if by_channel else None
        self._by_sample = BySample(steps, samples, quantized.sites, passes) if by_sample else None

    def local(self, members: np.ndarray) -> Callable[[int, SiteKey, Contraction, Tensor], None]:
        """Records each operation alone, on float operands."""

        def look(step: int, site: SiteKey, contraction: Contraction, output: Tensor) -> None:
            self._local.add(step, members, site, output, self._quantized.emulate(site, contraction, step))

        return look

    def climb(self, point: Point) -> None:
        """Run every rung on the point's x_t."""
        before, epsilon_before = point.outputs, point.epsilon
        for index, network in enumerate(self._networks):
            outputs: dict[SiteKey, Tensor] = {}

            def watch(
                site: SiteKey,
                found: Emulated,
                index: int = index,
                outputs: dict[SiteKey, Tensor] = outputs,
                before: dict[SiteKey, Tensor] = before,
            ) -> None:
                outputs[site] = found.output.clone()  # the network may write to its own
                self._sites[index].add(point.step, point.members, site, point.outputs[site], found)
                self._sites_added[index].add(point.step, point.members, site, before[site], found)
                if index == len(self._networks) - 1:
                    self._detail(point, site, found.output)

            output = network(
                point.x.to(torch.float32, copy=True),
                point.timestep,
                watch,
                step=point.step,
                audit=False,
                call=point.call,
            )
            epsilon = point.arithmetic.predict(output, point.x).epsilon
            self._epsilon[index].add(point.step, point.members, point.epsilon, epsilon)
            self._epsilon_added[index].add(point.step, point.members, epsilon_before, epsilon)
            before, epsilon_before = outputs, epsilon

    def _detail(self, point: Point, site: SiteKey, output: Tensor) -> None:
        reference = point.outputs[site]
        self._extremes.add(point.step, site, reference, output)
        if self._by_channel is not None:
            self._by_channel.add(point.step, site, reference, output)
        if self._by_sample is not None:
            self._by_sample.add(point.step, point.members, site, reference, output)

    def dataset(self, config: dict[str, Any]) -> xr.Dataset:
        """What was recorded, labelled."""
        quantized = self._quantized
        arrays = {
            "epsilon_rung": np.stack([record.blocks() for record in self._epsilon]),
            "epsilon_rung_added": np.stack([record.blocks() for record in self._epsilon_added]),
            "epsilon_count": self._epsilon[0].count(),
            "site_rung": np.stack([record.blocks() for record in self._sites]),
            "site_rung_added": np.stack([record.blocks() for record in self._sites_added]),
            "site_rung_clipped": np.stack([record.clipped for record in self._sites]),
            "site_rung_overflowed": np.stack([record.overflowed for record in self._sites]),
            "site_rung_saturated": np.stack([record.saturated for record in self._sites]),
            "site_local": self._local.blocks(),
            "site_local_clipped": self._local.clipped,
            "site_count": self._local.count(),
            "site_operands": np.array([facts.operands for facts in quantized.sites], np.int64),
            "site_macs": np.array([facts.macs for facts in quantized.sites], np.int64),
            "timestep": timestep_array(self._sampler.updates),
            **self._extremes.arrays(),
        }
        for name in ("epsilon_rung", "site_rung"):
            arrays[f"{name}_cross"] = _cross(arrays[name], arrays[f"{name}_added"])
        coords: dict[str, Any] = {
            "moment": list(moment_names()),
            "rung": [rung.value for rung in self._rungs],
            "site": [str(facts.key) for facts in quantized.sites],
            "model": config["model"], "scheme": config["scheme"], "target": config["target"],
            "sampler": self._sampler.name, "seed": config["seed"],
        }  # fmt: skip
        if self._by_channel is not None:
            moments, index, channel = self._by_channel.arrays()
            arrays["site_channel_rung"] = moments
            names = np.array(coords["site"])[index]
            coords |= {"site_of_channel": ("site_channel", names), "channel_of_site": ("site_channel", channel)}
        if self._by_sample is not None:
            arrays["site_sample_rung"] = self._by_sample.moments()
        attrs = {"config": canonical(config), "key": run_key(config), **environment()}
        data = {name: (BY_NAME[name].dims, array, BY_NAME[name].attrs) for name, array in arrays.items()}
        return xr.Dataset(data, coords=coords, attrs=attrs)


def _cross(errors: np.ndarray, added: np.ndarray) -> np.ndarray:
    """Mean of (error on the rung before) x (what the rung added), from the three powers; 0 on the first rung."""
    power, power_added = _power(errors), _power(added)
    before = np.concatenate([np.zeros_like(power[:1]), power[:-1]])
    cross = (power - before - power_added) / 2
    cross[0] = 0.0
    return cross


def _power(moments: np.ndarray) -> np.ndarray:
    """Mean of e^2 from central moments (..., 14)."""
    names = moment_names()
    return moments[..., names.index("ee")] + moments[..., names.index("mean_e")] ** 2
