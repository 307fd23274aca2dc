"""Reconstruction of a network, unit after unit, resumable at any unit with the same bits as not stopping."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from samplers.errors import BadInput
from samplers.validation import require_int
from simulator.arithmetic.arguments import require_kind
from simulator.calibration.observers import MinMax, Observer
from simulator.calibration.ranges import Ranges
from simulator.calibration.reconstruction.checkpoint import Checkpoint
from simulator.calibration.reconstruction.grid import WeightGrid
from simulator.calibration.reconstruction.learning import UnitLog, learn_roundings, learn_scales
from simulator.calibration.reconstruction.preparation import prepared_network
from simulator.calibration.reconstruction.problem import Problem
from simulator.calibration.reconstruction.recording import Passes, record
from simulator.calibration.reconstruction.result import Reconstructed, assembled
from simulator.calibration.reconstruction.rounded_network import RoundedNetwork
from simulator.calibration.reconstruction.samples import Batch, Collected, Samples
from simulator.calibration.reconstruction.scales import OneScalePerStepSet, ScaleModel
from simulator.calibration.reconstruction.settings import Reconstruction
from simulator.calibration.reconstruction.units import Blocks, Unit, partition
from simulator.instrument.plan import Plan
from simulator.instrument.scheme.scheme import Scheme
from simulator.instrument.sites import watching
from simulator.instrument.storage import Stored
from simulator.instrument.survey import survey
from simulator.models.conditioning import Conditioning, conditioning_config
from simulator.models.registry import Model
from simulator.provenance import model_config

PURPOSE = "calibrate"
"""Purpose under which batches and dropped elements are drawn: disjoint from every evaluation stream."""


def reconstruct(
    model: Model,
    scheme: Scheme,
    ranges: Ranges,
    samples: Collected | Iterable[Batch],
    method: Reconstruction,
    *,
    blocks: Blocks | None = None,
    weights: Observer = MinMax(),  # noqa: B008 - an immutable value
    scales: ScaleModel = OneScalePerStepSet(),  # noqa: B008 - an immutable value
    seed: int = 0,
    pass_size: int = 64,
    conditioning: Conditioning | None = None,
    allow_float: tuple[str, ...] = (),
    folder: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop_after: int | None = None,
) -> Reconstructed | None:
    """Choose the roundings of all weights that ``scheme`` quantizes, then activation scales if the method learns them.

    Units are taken in the order in which they run. Each is fed and judged over all samples; its target is its output in
    full precision. Deterministic for one thread count on one machine and torch version.

    Args:
        model: the network, in full precision; left as it is.
        scheme: widths of weights and activations; its registers and outputs play no part here.
        ranges: calibrated bounds of the activations; bounds of weights among them (role "weight") are used.
        samples: a collected set (x, timestep, step, member), or batches (x, timestep) or (x, timestep, step). Ranges
            of several step sets need the steps.
        method: ``adaround()``, ``brecq()``, ``qdrop()`` or one of your own.
        blocks: of a method whose unit is the block; by default ``Blocks.of(model.module)``.
        weights: finds bounds of weights that ``ranges`` has none of.
        scales: what learned activation scales look like.
        seed: of the batches and of what is dropped.
        pass_size: samples of a recording pass.
        conditioning: what the samples are conditioned on, and guidance.
        allow_float: sites that stay in float, as the quantized network's.
        folder: keeps what is done, unit by unit, and continues from it.
        progress: called with (iterations done, iterations in all); units that end early count in full.
        stop_after: leave after this many units of this call, as if interrupted.

    Returns:
        The result, or None if ``stop_after`` ended the call.

    Raises:
        BadInput: samples of another form, a scheme that the surrogate cannot follow (rules by step, block formats,
            activations rounded otherwise than half to even), weights that no checkpoint holds or that overlap, ranges
            that are missing, or a folder of another reconstruction.
    """
    for name, value, kind in (
        ("method", method, Reconstruction),
        ("scheme", scheme, Scheme),
        ("ranges", ranges, Ranges),
    ):
        require_kind(name, value, kind)
    for name, number, least in (("seed", seed, 0), ("pass_size", pass_size, 1), ("stop_after", stop_after or 1, 1)):
        require_int(name, number, least)
    if not isinstance(weights, Observer):
        raise BadInput("weights must be an observer", got=repr(weights), fix="pass MinMax(), say")
    found = Samples.of(model, samples)
    passes = Passes(model, found, pass_size, conditioning, tuple(allow_float))
    chosen = Blocks(()) if method.unit == "layer" else blocks
    facts = survey(model, allow_float=passes.allow_float, conditioning=conditioning)
    with watching(model.module):
        units = partition(model, chosen, conditioning=conditioning, allow_float=passes.allow_float)
        network = prepared_network(model, Plan(scheme, facts), units, ranges, weights, scales, found)
        config = {
            **model_config(model), **conditioning_config(conditioning), "scheme": scheme.config(),
            "method": method.config(), "units": [unit.name for unit in units], "weights": weights.config(),
            "scales": scales.config(), "seed": seed, "purpose": PURPOSE, "pass_size": pass_size,
            "allow_float": list(passes.allow_float), "samples": len(found), "samples_sha256": found.digest(),
            "ranges_sha256": ranges_digest(ranges),
        }  # fmt: skip
        work = _Work(passes, network, method, seed, Checkpoint(folder, config), progress, stop_after)
        if not work.round_weights(units) or not work.learn_scales(units):
            return None
    learned = None if method.scales is None else scales
    return assembled(
        model, network, work.codes, ranges, learned, method.name, config, tuple(work.logs), work.checkpoint.times
    )


class _Work:
    """A reconstruction under way."""

    def __init__(
        self, passes: Passes, network: RoundedNetwork, method: Reconstruction, seed: int, checkpoint: Checkpoint,
        progress: Callable[[int, int], None] | None, stop_after: int | None,
    ) -> None:  # fmt: skip
        self._passes, self._network, self._method, self._seed = passes, network, method, seed
        self._progress, self._left = progress, stop_after
        self._done, self._total = 0, 0
        self.checkpoint = checkpoint
        self.codes: dict[Stored, Tensor] = {}
        self.logs: list[UnitLog] = []

    def round_weights(self, units: tuple[Unit, ...]) -> bool:
        """The first phase; False if it was to stop."""
        method, network = self._method, self._network
        own: dict[int, dict[Stored, WeightGrid]] = {}
        for index, unit in enumerate(units):  # a weight that is met again keeps the codes of its first unit
            taken = {key for grids in own.values() for key in grids}
            keys = dict.fromkeys(network.stored[site] for site in unit.sites if site in network.stored)
            if mine := {key: network.grids[key] for key in keys if key not in taken}:
                own[index] = mine
        scaled = [] if method.scales is None else [i for i, unit in enumerate(units) if self._learned(unit)]
        self._total = len(own) * method.roundings.iterations
        self._total += 0 if method.scales is None else len(scaled) * method.scales.iterations
        dropping = method.inputs == "drop"
        for index, grids in own.items():
            unit, places = units[index], list(grids)
            kept = self.checkpoint.read("roundings", index)
            if kept is None:
                if self._stopping():
                    return False
                start = time.perf_counter()
                problem = self._problem(unit, activations=dropping, p=method.roundings.p)
                codes, log = learn_roundings(
                    (unit.name, tuple(map(str, unit.sites))), problem, grids, method.roundings,
                    self._generator("roundings", unit), self._tick,
                )  # fmt: skip
                kept = {str(i): codes[key].to(torch.int32) for i, key in enumerate(places)}, log
                self.checkpoint.write(index, *kept, seconds=time.perf_counter() - start)
            for i, key in enumerate(places):
                self.codes[key] = kept[0][str(i)].to(torch.float32)
                network.values[key] = grids[key].values(self.codes[key])
            self._end(kept[1], method.roundings.iterations)
        return True

    def learn_scales(self, units: tuple[Unit, ...]) -> bool:
        """The second phase; False if it was to stop."""
        learn = self._method.scales
        if learn is None:
            return True
        for index, unit in enumerate(units):
            parameters = self._learned(unit)
            if not parameters:
                continue
            kept = self.checkpoint.read("scales", index)
            if kept is None:
                if self._stopping():
                    return False
                start = time.perf_counter()
                problem = self._problem(unit, activations=True, p=learn.p)
                log = learn_scales(
                    (unit.name, tuple(map(str, unit.sites))), problem, list(parameters.values()), learn,
                    self._generator("scales", unit), self._tick,
                )  # fmt: skip
                kept = {name: parameter.detach() for name, parameter in parameters.items()}, log
                self.checkpoint.write(index, *kept, seconds=time.perf_counter() - start)
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(kept[0][name])
            self._end(kept[1], learn.iterations)
        return True

    def _problem(self, unit: Unit, *, activations: bool, p: float) -> Problem:
        method, network = self._method, self._network
        target = record(self._passes, unit, None, output=True)
        inputs = target if method.inputs == "float" else record(self._passes, unit, network, activations=activations)
        return Problem(
            self._passes.model, unit, network, target, inputs, activations=activations,
            dropped=method.dropped if method.inputs == "drop" else 0.0, p=p, variant=method.variant,
        )  # fmt: skip

    def _learned(self, unit: Unit) -> Mapping[str, Tensor]:
        """Learned parameters of a unit's activations, by site, role and name."""
        return {
            f"{site} {role} {name}": parameter
            for site in unit.sites
            for role in self._network.treatments[site].operands
            if (site, role) in self._network.scales
            for name, parameter in self._network.scales[site, role].parameters().items()
        }

    def _generator(self, phase: str, unit: Unit) -> torch.Generator:
        """A stream for each phase and unit, so that a resumed run draws what an unbroken one would."""
        words = hashlib.sha256(f"{PURPOSE}/{phase}/{unit.name}/{self._seed}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(words[:8], "little") >> 1)

    def _stopping(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        return self._left < 0

    def _tick(self, done: int) -> None:
        if self._progress is not None:
            self._progress(self._done + done, self._total)

    def _end(self, log: UnitLog, iterations: int) -> None:
        self.logs.append(log)
        self._done += iterations
        self._tick(0)


def ranges_digest(ranges: Ranges) -> str:
    """SHA-256, in hexadecimal, of all bounds and step sets."""
    digest = hashlib.sha256(repr(ranges.steps.config()).encode())
    for (site, role, name), bounds in sorted(ranges.bounds.items(), key=lambda item: (str(item[0][0]), *item[0][1:])):
        digest.update(f"{site}\0{role}\0{name}\0".encode())
        for bound in bounds:
            digest.update(repr(bound.shape).encode() + bound.tobytes())
    return digest.hexdigest()
