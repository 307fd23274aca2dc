"""Options become the job they describe, and the key depends on all that determines results."""

from __future__ import annotations

import dataclasses

import pytest

from samplers import (
    DDIM,
    DDPM,
    PLMS,
    DPMSolver,
    Euler,
    EulerAncestral,
    FixedPointState,
    Float16State,
    Float64State,
    Heun,
    NoiseSchedule,
)  # fmt: skip
from samplers.errors import BadInput
from simulator.models.registry import load
from studies.job import Job, Part, default_parts
from studies.main_job import job_from_options
from studies.sampler_names import read_sampler, spell
from studies.state_names import state_from_text

OPTIONS = {
    "model": "digits-unet", "schemes": (), "sampler": "ddim", "steps": 50, "eta": None, "samples": 64, "seed": 0,
    "calibration_samples": 256, "threads": 2,
}  # fmt: skip


def test_job_from_options__default_is_three_schemes_at_eta_0_and_one_at_eta_1() -> None:
    job = job_from_options(**OPTIONS)
    assert [(part.sampler, part.eta, part.schemes) for part in job.parts] == [
        ("ddim", 0.0, ("w8a8", "w4a8", "w4a4")),
        ("ddim", 1.0, ("w4a8",)),
    ]
    assert (job.num_inference_steps, job.samples, job.calibration_samples) == (50, 64, 256)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"schemes": ("w6a6",)}, Part("ddim", 0.0, ("w6a6",))),
        ({"eta": 0.5}, Part("ddim", 0.5, ("w8a8", "w4a8", "w4a4"))),
        ({"sampler": "ddpm", "schemes": ("w8a8",)}, Part("ddpm", None, ("w8a8",))),
    ],
)
def test_job_from_options__any_choice_makes_one_part(changes: dict, part: Part) -> None:
    assert job_from_options(**{**OPTIONS, **changes}).parts == (part,)


def test_key__changes_with_every_field() -> None:
    import simulator

    model = simulator.load("digits-unet")
    job = Job("digits-unet", default_parts())
    other = {
        "parts": default_parts()[:1], "num_inference_steps": 49, "samples": 63, "seed": 1, "calibration_samples": 255,
        "batch_size": 32, "threads": 7, "state": "float16",
    }  # fmt: skip
    keys = {job.key(model), *(dataclasses.replace(job, **{name: value}).key(model) for name, value in other.items())}
    assert len(keys) == 1 + len(other)
    conditions = {"conditioning", "guidance"}  # test_own_models.py holds what they do to keys
    assert set(other) | {"model"} | conditions == {field.name for field in dataclasses.fields(Job)}
    assert job.key(model) == dataclasses.replace(job, model="digits-unet@1").key(model)


def test_part__needs_a_scheme() -> None:
    with pytest.raises(BadInput, match="at least one scheme"):
        Part("ddim", 0.0, ())


def test_part__without_knobs_has_the_configuration_that_it_always_had():
    assert Part("ddim", 0.0, ("w8a8",)).config() == {"sampler": "ddim", "eta": 0.0, "schemes": ("w8a8",)}


@pytest.mark.parametrize(
    ("sampler", "knobs", "expected"),
    [
        ("ddpm", ("variance_type=fixed_large",), DDPM(NoiseSchedule(), 7, "fixed_large")),
        ("ddim", ("clip_sample=true", "clip_sample_range=2"),
         DDIM(NoiseSchedule(), 7, clip_sample=True, clip_sample_range=2.0)),
        ("plms", ("set_alpha_to_one=true",), PLMS(NoiseSchedule(), 7, set_alpha_to_one=True)),
        ("euler", ("use_karras_sigmas=True",), Euler(NoiseSchedule(), 7, use_karras_sigmas=True)),
        ("euler-ancestral", ("timestep_spacing=leading", "steps_offset=1"),
         EulerAncestral(NoiseSchedule(), 7, timestep_spacing="leading", steps_offset=1)),
        ("heun", (), Heun(NoiseSchedule(), 7)),
        ("dpm-solver++", ("solver_order=1",), DPMSolver(NoiseSchedule(), 7, solver_order=1)),
        ("sde-dpm-solver++", ("lambda_min_clipped=-5.1",),
         DPMSolver(NoiseSchedule(), 7, algorithm_type="sde-dpmsolver++", lambda_min_clipped=-5.1)),
    ],
)  # fmt: skip
def test_knobs__become_arguments_of_the_sampler_and_part_of_the_key(sampler, knobs, expected):
    job = job_from_options(**{**OPTIONS, "sampler": sampler, "knobs": knobs, "schemes": ("w8a8",)})
    (part,) = job.parts
    model = load("digits-unet")
    built = part.build(model, 7)
    assert built == dataclasses.replace(expected, schedule=model.schedule)
    plain = job_from_options(**{**OPTIONS, "sampler": sampler, "schemes": ("w8a8",)})
    assert (plain.key(model) == job.key(model)) == (knobs == ())


@pytest.mark.parametrize(
    ("sampler", "knobs", "message"),
    [
        ("euler", ("solver_order=2",), "a knob must be name=value, each name once, of timestep_spacing"),
        ("dpm-solver++", ("solver_order",), "a knob must be name=value"),
        ("dpm-solver++", ("solver_order=1", "solver_order=2"), "each name once"),
        ("dpm-solver++", ("solver_order=two",), "solver_order must be an integer, got 'two'"),
        ("heun", ("clip_sample=1",), "clip_sample must be true or false"),
        ("ddim", ("eta=1",), "a knob must be"),
        ("pndm", (), "sampler must be one of ddim, ddpm, plms"),
    ],
)
def test_knobs__refuse_what_the_sampler_does_not_have(sampler, knobs, message):
    with pytest.raises(BadInput, match=message):
        job_from_options(**{**OPTIONS, "sampler": sampler, "knobs": knobs, "schemes": ("w8a8",)})


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("float16", Float16State()),
        ("float64", Float64State()),
        ("fixed:20:10", FixedPointState(20, 10)),
        ("fixed:20:10:12", FixedPointState(20, 10, 12)),
    ],
)
def test_state__is_read_by_its_name(text: str, state) -> None:
    assert state_from_text(text) == state


@pytest.mark.parametrize("text", ["float8", "fixed", "fixed:20", "fixed:20:ten", "fixed:99:10", "fixed:1:2:3:4"])
def test_state__that_does_not_exist_is_refused_with_the_job(text: str) -> None:
    with pytest.raises(BadInput):
        Job("digits-unet", default_parts(), state=text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ddim", ("ddim", 0.0, ())),
        ("ddim:0.5", ("ddim", 0.5, ())),
        ("ddim:eta=1,clip_sample=true", ("ddim", 1.0, (("clip_sample", True),))),
        ("ddpm", ("ddpm", None, ())),
        ("ddpm:fixed_large", ("ddpm", None, (("variance_type", "fixed_large"),))),
        ("dpm-solver++:solver_order=1", ("dpm-solver++", None, (("solver_order", 1),))),
    ],
)
def test_read_sampler__takes_knobs_after_the_name_and_spell_gives_them_back(text, expected):
    found = read_sampler(text)
    assert found == expected
    assert read_sampler(spell(*found)) == found


@pytest.mark.parametrize(
    ("text", "eta", "knobs", "message"),
    [
        ("ddim:0.5", 1.0, (), "eta must be named once"),
        ("ddim:half", None, (), "eta must be a number"),
        ("ddpm:fixed_large", None, ("variance_type=fixed_small",), "each name once"),
        ("heun:1", None, (), "name=value"),
        ("pndm:1", None, (), "sampler must be one of"),
    ],
)
def test_read_sampler__refuses_what_is_named_twice_or_unknown(text, eta, knobs, message):
    with pytest.raises(BadInput, match=message):
        read_sampler(text, eta, knobs)


def test_job_from_options__gives_both_spellings_of_a_sampler_one_key():
    options = {"model": "digits-unet", "schemes": (), "steps": 5, "samples": 4, "seed": 0, "calibration_samples": 8}
    one = job_from_options(sampler="ddim:0.5", eta=None, threads=1, **options)
    assert one == job_from_options(sampler="ddim", eta=0.5, threads=1, **options)
