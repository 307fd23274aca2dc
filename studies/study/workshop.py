"""Compute runs one after another in one process; what they have in common is made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import xarray as xr
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from noise_models.absorption.absorbable import can_absorb
from noise_models.correction.ptqd_fit import fit_ptqd
from samplers.sampler import Sampler
from samplers.state import FLOAT64
from simulator.calibration.ranges import Ranges
from simulator.calibration.ranges_bytes import ranges_from_bytes, ranges_to_bytes
from simulator.calibration.trajectory import PURPOSE, calibrate_ranges
from simulator.correction import Correction, NoCorrection
from simulator.instrument.accounting import account
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.rungs import Rung
from simulator.models.conditioning import Conditioning, conditioning_config
from simulator.models.registry import Model
from simulator.paired import INJECTED, Arm, run
from simulator.provenance import canonical, model_config, run_key
from simulator.recording import Recording, record_outputs, recording_config
from simulator.threads import set_threads
from studies.corrections.comparison import FITS
from studies.recipes.task import Bits, Task
from studies.state_names import state_from_text
from studies.store.netcdf import from_image, to_image
from studies.store.store import Store
from studies.study.configurations import Configurations
from studies.study.shared import Shared
from studies.study.spec import NO_CORRECTION, RunSpec

Report = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""

EVALUATE = "evaluate"

MOST_RECORDED = 2**30
"""Bytes of full precision's outputs that are kept; a larger trajectory is walked with the network by every run."""

CONFIG, KEY = "study_config", "study_key"
"""Attributes of a stored run: its configuration's canonical spelling, and its SHA-256, which is the file's name."""

SPEC = "study_spec"
"""Attribute of a stored run: the spec's values, from which it can be made again."""


class Workshop:
    """Makes runs of studies.

    Args:
        store: keeps what runs have in common, for other processes too; None keeps it in this one's memory.
    """

    def __init__(self, store: Store | None = None) -> None:
        self.shared = Shared(store)
        self._configurations = Configurations()

    def run(self, spec: RunSpec, report: Report = lambda *_: None) -> xr.Dataset:
        """The run's dataset, with the spec's values as coordinates.

        Raises:
            BadInput: the model cannot be had, or cannot be run so.
        """
        set_threads(spec.threads)
        model = self._configurations.load(spec.model)
        sampler = spec.built_sampler(model)
        conditioning = spec.conditions()
        if spec.recipe:
            task = Task(model, sampler, Bits.parse(spec.bits), conditioning, spec.batch_size)
            prepared = spec.found_recipe().prepare(task, seed=spec.seed, report=report)
            network, correction, reference = prepared.network, prepared.correction, prepared.reference
        else:
            network = self._network(spec, model, sampler, conditioning, report)
            correction, reference = self._correction(spec, network, sampler, report), model
        state = state_from_text(spec.state) if spec.state else None
        own = network.model is reference
        found = run(
            Arm(network, correction, state), sampler, samples=spec.samples, seed=spec.seed,
            batch_size=spec.batch_size, sites=spec.sites, conditioning=conditioning, subsample=spec.keep,
            reference=None if own else reference,
            recording=None if spec.sites else self._recording(spec, reference, sampler, conditioning, EVALUATE, report),
            progress=lambda done, total: report("sampling", done, total),
        )  # fmt: skip
        return _described(found, spec, self._configurations.config(spec), network)

    def _network(
        self, spec: RunSpec, model: Model, sampler: Sampler, conditioning: Conditioning | None, report: Report
    ) -> QuantizedModel:
        scheme = spec.parsed_scheme()
        ranges = self._ranges(spec, model, sampler, conditioning, scheme.requantizes, report)
        return QuantizedModel(model, scheme, ranges, rung=Rung(spec.rung), conditioning=conditioning)

    def _ranges(
        self, spec: RunSpec, model: Model, sampler: Sampler, conditioning: Conditioning | None, outputs: bool,
        report: Report,
    ) -> Ranges:  # fmt: skip
        settings: dict[str, Any] = {
            "samples": spec.calibration_samples, "seed": spec.seed, "batch_size": spec.batch_size, "outputs": outputs,
        }  # fmt: skip
        config = {
            "made": "ranges", **settings, **model_config(model), **conditioning_config(conditioning),
            "sampler": sampler.config(),
        }  # fmt: skip
        return self.shared.obtain(
            "ranges",
            run_key(config),
            lambda: calibrate_ranges(
                model, sampler, conditioning=conditioning, **settings,
                progress=lambda done, total: report("calibrating ranges", done, total),
            ),
            ranges_to_bytes,
            ranges_from_bytes,
        )  # fmt: skip

    def _correction(self, spec: RunSpec, network: QuantizedModel, sampler: Sampler, report: Report) -> Correction:
        if spec.correction == NO_CORRECTION:
            return NoCorrection()
        fitted_on = self._calibration_run(spec, network, sampler, report)
        if spec.correction == "ptqd":  # only corrects where the sampler's update cannot absorb
            return fit_ptqd(fitted_on, absorb=can_absorb(sampler.config()))
        return FITS[spec.correction](fitted_on)

    def _calibration_run(self, spec: RunSpec, network: QuantizedModel, sampler: Sampler, report: Report) -> xr.Dataset:
        """The quantized network's injected noise on the samples that ranges were found on: every fit's data."""
        model, conditioning = network.model, network.conditioning
        config = {
            "made": "calibration run", **model_config(model), **conditioning_config(conditioning),
            "scheme": network.scheme.config(), "rung": spec.rung, "ranges": dict(network.ranges.source),
            "sampler": sampler.config(), "samples": spec.calibration_samples, "seed": spec.seed,
            "batch_size": spec.batch_size,
        }  # fmt: skip

        def make() -> xr.Dataset:
            return run(
                Arm(network), sampler, purpose=PURPOSE, kinds=(INJECTED,), sites=False,
                samples=spec.calibration_samples, seed=spec.seed, batch_size=spec.batch_size,
                recording=self._recording(spec, model, sampler, conditioning, PURPOSE, report),
                progress=lambda done, total: report("fitting a correction", done, total),
            )  # fmt: skip

        return self.shared.obtain("calibration run", run_key(config), make, to_image, from_image)

    def _recording(
        self, spec: RunSpec, model: Model, sampler: Sampler, conditioning: Conditioning | None, purpose: str,
        report: Report,
    ) -> Recording | None:  # fmt: skip
        samples = spec.samples if purpose == EVALUATE else spec.calibration_samples
        elements = samples * len(sampler.updates)
        for length in model.sample_shape:
            elements *= length
        if 4 * elements > MOST_RECORDED:
            return None
        config = recording_config(model, sampler, samples, spec.seed, purpose, spec.batch_size, FLOAT64, conditioning)
        return self.shared.obtain(
            f"full precision, {purpose}",
            run_key({"made": "recording", **config}),
            lambda: record_outputs(
                model, sampler, samples=samples, seed=spec.seed, purpose=purpose, batch_size=spec.batch_size,
                conditioning=conditioning,
                progress=lambda done, total: report(f"full precision, {purpose}", done, total),
            ),
            lambda recording: save_tensors({"outputs": recording.outputs}),
            lambda content: Recording(load_tensors(content)["outputs"], config),
        )  # fmt: skip


def _described(found: xr.Dataset, spec: RunSpec, config: dict[str, Any], network: QuantizedModel) -> xr.Dataset:
    """The run with what a study asks of it beside its noise: the spec as coordinates, and what the network costs."""
    coords = {name: value for name, value in spec.values().items() if name not in found.coords and value is not None}
    steps = int(found.sizes["step"])
    cost = account(network.plan, network.model.module, steps=steps)
    costs = {
        "bops": ((), float(cost.total_bops), {"units": "1", "long_name": "bit operations of all steps per sample"}),
        "weight_bytes": ((), float(cost.weights.total), {"units": "B", "long_name": "bytes of weights as stored"}),
    }
    return (
        found.assign_coords(coords)
        .assign(costs)
        .assign_attrs({CONFIG: canonical(config), KEY: run_key(config), SPEC: canonical(spec.values())})
    )
