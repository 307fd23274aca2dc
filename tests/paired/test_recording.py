"""Claim: a run on recorded outputs of full precision is the run, bit for bit, and a recording serves no other run."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from samplers.ddim import DDIM
from samplers.ddpm import DDPM
from samplers.dpm_solver import DPMSolver
from samplers.errors import BadInput
from samplers.state import Float32State
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.paired import Arm, run
from simulator.recording import Recording, record_outputs

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = {"samples": 5, "batch_size": 3, "seed": 2}


@pytest.fixture(params=[DDIM, DDPM, DPMSolver])
def sampler(request, tiny_model):
    return request.param(tiny_model.schedule, 4)


@pytest.fixture
def arm(tiny_model, sampler) -> Arm:
    return Arm(QuantizedModel(tiny_model, Scheme.parse("w4a4"), calibrate_ranges(tiny_model, sampler, samples=4)))


def test_run__on_a_recording_has_the_bits_and_the_key_of_the_run(tiny_model, sampler, arm) -> None:
    recording = record_outputs(tiny_model, sampler, **SIZES)
    assert recording.outputs.shape == (len(sampler.updates), 5, *tiny_model.sample_shape)
    direct = run(arm, sampler, sites=False, **SIZES)
    xr.testing.assert_identical(run(arm, sampler, sites=False, recording=recording, **SIZES), direct)


def test_run__on_a_recording_never_calls_the_reference_network(tiny_model, sampler, arm, monkeypatch) -> None:
    recording = record_outputs(tiny_model, sampler, **SIZES)
    monkeypatch.setattr("simulator.reference.forward", lambda *_, **__: pytest.fail("the network ran"))
    run(arm, sampler, sites=False, recording=recording, **SIZES)


def test_run__refuses_a_recording_of_another_run(tiny_model, sampler, arm) -> None:
    others = ({"samples": 4}, {"batch_size": 5}, {"seed": 1}, {"purpose": "calibrate"}, {"state": Float32State()})
    for other in others:
        recording = record_outputs(tiny_model, sampler, **{**SIZES, **other})
        with pytest.raises(BadInput, match=f"another {next(iter(other))}"):
            run(arm, sampler, sites=False, recording=recording, **SIZES)
    recording = record_outputs(tiny_model, DDIM(tiny_model.schedule, 3, eta=0.3), **SIZES)
    with pytest.raises(BadInput, match="another sampler"):
        run(arm, sampler, sites=False, recording=recording, **SIZES)


def test_run__refuses_a_recording_where_sites_are_recorded(tiny_model, sampler, arm) -> None:
    recording = record_outputs(tiny_model, sampler, **SIZES)
    with pytest.raises(BadInput, match="no site's output"):
        run(arm, sampler, recording=recording, **SIZES)


def test_recording__is_float32() -> None:
    with pytest.raises(BadInput, match="float32"):
        Recording(np.zeros((2, 3, 1)), {})
