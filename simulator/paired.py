"""The paired run: full precision and quantized on shared noise, and the noise between them, step by step.

At each step the full-precision network runs once on its own x_t. Every quantized network runs on that same x_t (the
step's *injected* noise), and every arm's network on the arm's own x_t (*accumulated* noise). Initial and step noise are
shared by all. Arms are computed side by side only to share work: each arm's numbers are those of a run alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from samplers.coefficients import Prediction, advance, history_length
from samplers.errors import BadInput
from samplers.fixed_point import FixedPointState
from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from samplers.schedule import require_schedule
from samplers.state import FLOAT64, State, state_config
from simulator.correction import Correction, NoCorrection
from simulator.decoded import DecodedRecord
from simulator.instrument.machines.machine import Emulated
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.sites import SiteKey, watching
from simulator.kept import KeptRecord
from simulator.models.conditioning import Conditioning, call_for
from simulator.models.registry import Model
from simulator.provenance import canonical, model_config, run_config
from simulator.record import ChannelRecord, SiteRecord
from simulator.recording import Recording, recording_config
from simulator.reference import Point, full_precision
from simulator.run_dataset import run_dataset

INJECTED, ACCUMULATED = "injected", "accumulated"

SHOWN = 64
"""Final samples kept as images: the first ones, so that the subsample is fixed."""

Progress = Callable[[int, int], None]
"""Called after each step of each batch with (steps done, steps in all)."""


@dataclass(frozen=True)
class Arm:
    """One quantized run to compare with full precision: a quantized network, a correction, and its own arithmetic.

    Args:
        quantized: the network.
        correction: of its output and of the sampler's updates.
        state: arithmetic of the arm's x_t and updates; full precision's if None. A narrower one makes the update
            itself a source of (accumulated) noise.
    """

    quantized: QuantizedModel
    correction: Correction = field(default_factory=NoCorrection)
    state: State | None = None


def run(arm: Arm, sampler: Sampler, **options: Any) -> xr.Dataset:
    """One arm against full precision; options and dataset as in :func:`run_arms`."""
    return run_arms((arm,), sampler, **options)[0]


@torch.no_grad()
def run_arms(
    arms: Sequence[Arm],
    sampler: Sampler,
    *,
    samples: int = 64,
    seed: int = 0,
    purpose: str = "evaluate",
    batch_size: int = 64,
    kinds: tuple[str, ...] = (INJECTED, ACCUMULATED),
    sites: bool = True,
    state: State = FLOAT64,
    conditioning: Conditioning | None = None,
    subsample: int = 0,
    reference: Model | None = None,
    recording: Recording | None = None,
    progress: Progress | None = None,
) -> tuple[xr.Dataset, ...]:
    """Sample with full precision and with every arm on shared noise, and record the noise between them.

    Args:
        arms: quantized networks of one model, or with ``reference`` of any derived from it, with corrections.
        sampler: any of ``samplers``.
        samples: number of samples.
        seed: of the noise stream.
        purpose: of the noise stream: samples that fit anything take another purpose than samples that evaluate.
        batch_size: samples per forward pass; part of the key, since torch's float bits depend on it.
        kinds: noise to record; without "accumulated" no arm walks its own trajectory.
        sites: whether to record every site's output, or only epsilon and x.
        state: arithmetic of full precision's x_t and update.
        conditioning: what samples are conditioned on, and guidance; the quantized networks' own if None.
        subsample: how many samples, the first ones, have epsilon and its noise kept whole at every step (float32).
        reference: the network in full precision, where the quantized ones hold other modules or weights (balanced,
            rotated, trained further); sites then have no counterpart and are not recorded. The arms' own if None.
        recording: full precision's outputs of this very run (:func:`simulator.record_outputs`), in place of running
            the network again; without ``sites``, whose outputs it does not hold. It changes no bit and no key.
        progress: called after each step.

    Returns:
        One dataset per arm; ``simulator.variables`` defines each variable.

    Raises:
        BadInput: no arms, arms of different models (with ``reference``: that take other samples), sizes below 1,
            unknown kinds, a model without a noise schedule, a sampler of another prediction_type, a correction fitted
            for another use, conditions that do not fit, a recording of another run or beside sites.
    """
    model = _check(arms, sampler, samples, batch_size, kinds, subsample, sites, reference)
    conditioning = _shared_conditioning(arms, conditioning)
    settings = {
        "sampler": sampler.config(),
        "state": state_config(state),
        "samples": samples,
        "seed": seed,
        "purpose": purpose,
        "batch_size": batch_size,
        "kinds": list(kinds),
        "sites": sites,
        # keys of runs without these stay as they were
        **({"subsample": subsample} if subsample else {}),
        **({"reference": model_config(reference)} if reference is not None else {}),
    }
    configs = [run_config(arm.quantized, arm.correction, conditioning, **settings, **_own_state(arm)) for arm in arms]
    for arm, config in zip(arms, configs, strict=True):
        arm.correction.check(config)
    if recording is not None:
        if sites:
            raise BadInput("a recording holds no site's output", got="sites=True", fix="pass sites=False")
        recording.require(recording_config(model, sampler, samples, seed, purpose, batch_size, state, conditioning))
    passes = 1 if conditioning is None else conditioning.passes
    networks = {id(arm.quantized): _Network(arm.quantized, sampler, samples, kinds, sites, passes) for arm in arms}
    runs = [_ArmRun(arm, networks[id(arm.quantized)], sampler, samples, kinds, subsample) for arm in arms]
    noise = NoiseStream(seed, purpose)
    batches = range(0, samples, batch_size)
    total = len(batches) * len(sampler.updates)
    allow_float = arms[0].quantized.allow_float if reference is None else ()
    with ExitStack() as watched:
        for module in {id(m): m for m in (model.module, *(arm.quantized.model.module for arm in arms))}.values():
            watched.enter_context(watching(module))
        for done, first in enumerate(batches):
            members = np.arange(first, min(first + batch_size, samples))
            call = call_for(model, conditioning, members)
            for point in full_precision(model, allow_float, sampler, state, noise, members, call, recording=recording):
                if INJECTED in kinds:
                    for network in networks.values():
                        network.inject(point)
                for arm_run in runs:
                    arm_run.step(point)
                if progress is not None:
                    progress(done * len(sampler.updates) + point.step + 1, total)
            decoder = model.decoder if ACCUMULATED in kinds else None
            pixels = None if decoder is None else decoder.decode(_exact(point.x_next))
            for arm_run in runs:
                arm_run.keep_final(point, pixels)
    return tuple(arm_run.dataset(config) for arm_run, config in zip(runs, configs, strict=True))


def _own_state(arm: Arm) -> dict[str, Any]:
    return {} if arm.state is None else {"state_quantized": state_config(arm.state)}


def _check(
    arms: Sequence[Arm], sampler: Sampler, samples: int, batch_size: int, kinds: tuple[str, ...], subsample: int,
    sites: bool, reference: Model | None,
) -> Model:  # fmt: skip
    for name, value in (("samples", samples), ("batch_size", batch_size)):
        if value < 1:
            raise BadInput(f"{name} must be at least 1", got=value, fix="ask for one or more")
    if not 0 <= subsample <= samples:
        raise BadInput(
            f"subsample must be 0 to {samples}, the run's samples", got=subsample, fix="keep fewer, or run more"
        )
    if not kinds or not set(kinds) <= {INJECTED, ACCUMULATED}:
        raise BadInput(f"kinds must be among {INJECTED} and {ACCUMULATED}", got=kinds, fix="name one or both")
    model = _one_model(arms) if reference is None else _derived_from(reference, arms, sites)
    require_schedule(model.schedule)
    if sampler.prediction_type != model.prediction_type:
        raise BadInput(
            f"the sampler's prediction_type must be the model's, {model.prediction_type!r}",
            got=repr(sampler.prediction_type),
            fix="build the sampler with the model's",
        )
    return model


def _one_model(arms: Sequence[Arm]) -> Model:
    every = [arm.quantized.model for arm in arms]
    models = {(model.weights_digest, id(model.module), id(model.decoder)): model for model in every}
    if len(models) != 1:
        raise BadInput(
            "a paired run needs arms of one model", got=f"{len(models)} models",
            fix="make one run per model, or name the reference that they derive from",
        )  # fmt: skip
    if len(found := {arm.quantized.allow_float for arm in arms}) != 1:
        raise BadInput("arms of one run must allow the same modules in float", got=found, fix="make one run for each")
    return next(iter(models.values()))


def _derived_from(reference: Model, arms: Sequence[Arm], sites: bool) -> Model:
    if sites:
        raise BadInput(
            "sites of another network have no counterpart in the reference", got="sites=True", fix="pass sites=False"
        )
    if not arms:
        raise BadInput("a paired run needs an arm", got="none", fix="pass one or more")
    for model in (arm.quantized.model for arm in arms):
        for name in ("sample_shape", "prediction_type", "schedule", "conditions"):
            if getattr(model, name) != getattr(reference, name):
                raise BadInput(
                    f"arms must have the reference's {name}, {getattr(reference, name)}",
                    got=f"{getattr(model, name)} of {model.name}",
                    fix="derive them from it",
                )
    return reference


def _shared_conditioning(arms: Sequence[Arm], given: Conditioning | None) -> Conditioning | None:
    """The run's conditions: those given, else those that all quantized networks share."""
    own = [arm.quantized.conditioning for arm in arms]
    if len({None if one is None else canonical(one.config()) for one in own}) != 1 and given is None:
        raise BadInput(
            "arms of one run must have the same conditions", got="different ones", fix="name the run's conditioning"
        )
    chosen = own[0] if given is None else given
    passes = {1 if one is None else one.passes for one in (*own, chosen)}
    if len(passes) != 1:
        raise BadInput(
            "a run under guidance needs networks quantized under guidance, and a run without it, without",
            got="one of each",
            fix="give QuantizedModel the run's conditioning",
        )
    return chosen


class _Network:
    """One quantized network under way; its injected pass serves all arms that use it."""

    def __init__(
        self,
        quantized: QuantizedModel,
        sampler: Sampler,
        samples: int,
        kinds: tuple[str, ...],
        sites: bool,
        passes: int,
    ) -> None:
        def new_record() -> SiteRecord | None:
            return SiteRecord(len(sampler.updates), samples, quantized.sites, passes=passes) if sites else None

        self._quantized, self._new_record = quantized, new_record
        self.sites = self._new_record() if INJECTED in kinds else None
        self.epsilon: Tensor

    def inject(self, point: Point) -> None:
        """Run on the full-precision x_t."""
        output = self.forward(point, point.x, self.sites)
        self.epsilon = point.arithmetic.predict(output, point.x).epsilon

    def forward(self, point: Point, x: Tensor, record: SiteRecord | None) -> Tensor:
        """Run on x, recording every site's noise against full precision."""

        def watch(site: SiteKey, found: Emulated) -> None:
            assert record is not None
            record.add(point.step, point.members, site, point.outputs[site], found)

        # full precision was audited on this very timestep; the quantized pass is held to the same sites
        watcher = None if record is None else watch
        return self._quantized(
            x.to(torch.float32, copy=True), point.timestep, watcher, step=point.step, audit=False, call=point.call
        )

    def new_record(self) -> SiteRecord | None:
        """An empty record of this network's sites, if they are recorded."""
        return self._new_record()


class _ArmRun:
    """One arm under way: its own x_t and what is recorded of it."""

    def __init__(
        self, arm: Arm, network: _Network, sampler: Sampler, samples: int, kinds: tuple[str, ...], subsample: int
    ) -> None:
        self._arm, self._network, self._sampler = arm, network, sampler
        self._updates = tuple(arm.correction.update(i, update) for i, update in enumerate(sampler.updates))
        channels = arm.quantized.model.sample_shape[0]
        self._epsilon = {kind: ChannelRecord(len(self._updates), samples, channels) for kind in kinds}
        self._subsample = KeptRecord(kinds, len(self._updates), subsample, arm.quantized.model.sample_shape)
        self._accumulates = ACCUMULATED in kinds
        self._sites = network.new_record() if self._accumulates else None
        self._state = ChannelRecord(len(self._updates), samples, channels) if self._accumulates else None
        self._shown: dict[str, list[np.ndarray]] = {"sample_reference": [], "sample_quantized": []}
        self._decoder = arm.quantized.model.decoder if self._accumulates else None
        self._decoded = None if self._decoder is None else DecodedRecord(samples)
        self._kept = history_length(self._updates)
        self._clipped = np.zeros((2, len(self._updates)), np.int64)
        self._saturated = np.zeros(len(self._updates), np.int64)
        self.x: Tensor
        self._earlier: tuple[Prediction, ...]

    def step(self, point: Point) -> None:
        """Record the injected noise, then walk one step of the arm's own trajectory."""
        correct, step, members = self._arm.correction.epsilon, point.step, point.members
        if INJECTED in self._epsilon:
            corrected = correct(step, self._injected(point), members)
            self._epsilon[INJECTED].add(step, members, point.epsilon, corrected)
            self._subsample.add(INJECTED, step, members, point.epsilon, corrected)
        if self._state is None:
            return
        state = point.arithmetic.state if self._arm.state is None else self._arm.state
        arithmetic = dataclasses.replace(point.arithmetic, state=state, update=self._updates[step])
        if step == 0:
            self.x, self._earlier = state.cast(point.x), ()  # the shared initial noise
        output = self._network.forward(point, self._arm.correction.input(step, self.x), self._sites)
        prediction = arithmetic.predict(output, self.x)
        epsilon = state.cast(correct(step, prediction.epsilon, members))  # a correction computes in float
        self._epsilon[ACCUMULATED].add(step, members, point.epsilon, epsilon)
        self._subsample.add(ACCUMULATED, step, members, point.epsilon, epsilon)
        if not torch.equal(epsilon, prediction.epsilon):  # else x0 stays as the output gave it, to the last bit
            prediction = arithmetic.corrected(epsilon, self.x, prediction)
        z = None if point.z is None else state.cast(point.z)
        self.x = advance(state, self._updates[step], self.x, prediction, z, self._earlier)
        self._earlier = (prediction, *self._earlier)[: self._kept]
        self._clipped[:, step] += point.prediction.clipped, prediction.clipped
        if isinstance(state, FixedPointState):
            self._saturated[step] += state.saturated(prediction.x0) + state.saturated(self.x)
        self._state.add(step, members, point.x_next, self.x)

    def _injected(self, point: Point) -> Tensor:
        """The quantized network's epsilon at full precision's x_t; of its own pass if the input is corrected."""
        seen = self._arm.correction.input(point.step, point.x)
        if seen is point.x:
            return self._network.epsilon
        return point.arithmetic.predict(self._network.forward(point, seen, None), point.x).epsilon

    def keep_final(self, point: Point, pixels: Tensor | None) -> None:
        """Keep the first final samples, and the noise of all in pixels; ``pixels`` are the decoded reference's."""
        if self._accumulates:
            for name, x in (("sample_reference", point.x_next), ("sample_quantized", self.x)):
                missing = SHOWN - sum(map(len, self._shown[name]))
                self._shown[name].append(x[: max(missing, 0)].float().numpy())
        if self._decoder is not None and self._decoded is not None and pixels is not None:
            self._decoded.add(point.members, pixels, self._decoder.decode(_exact(self.x)))

    def dataset(self, config: dict[str, Any]) -> xr.Dataset:
        """What was recorded."""
        records = {INJECTED: self._network.sites, ACCUMULATED: self._sites}
        sites = {kind: record for kind, record in records.items() if record is not None}
        shown = {name: np.concatenate(images) for name, images in self._shown.items() if images}
        shown |= self._subsample.arrays()
        arm = self._arm
        return run_dataset(
            config, arm.quantized, arm.correction, self._sampler, self._epsilon, self._state, sites, shown,
            self._decoded, self._clipped if self._accumulates and self._sampler.clipping is not None else None,
            self._saturated if self._accumulates and isinstance(arm.state, FixedPointState) else None,
        )  # fmt: skip


def _exact(x: Tensor) -> Tensor:
    """A state in a dtype that decoders take; half precision is exact in float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
