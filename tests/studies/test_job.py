"""Options become the job they describe, and the key depends on all that determines results."""

from __future__ import annotations

import dataclasses

import pytest

from samplers.errors import BadInput
from studies.job import Job, Part, default_parts
from studies.main_job import job_from_options

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
        "batch_size": 32, "threads": 7,
    }  # fmt: skip
    keys = {job.key(model), *(dataclasses.replace(job, **{name: value}).key(model) for name, value in other.items())}
    assert len(keys) == 1 + len(other)
    conditions = {"conditioning", "guidance"}  # test_own_models.py holds what they do to keys
    assert set(other) | {"model"} | conditions == {field.name for field in dataclasses.fields(Job)}
    assert job.key(model) == dataclasses.replace(job, model="digits-unet@1").key(model)


def test_part__needs_a_scheme() -> None:
    with pytest.raises(BadInput, match="at least one scheme"):
        Part("ddim", 0.0, ())
