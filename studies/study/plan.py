"""From a study to tasks: every run with its key, and everything checked that can be without running a network."""

from __future__ import annotations

from samplers.errors import BadInput
from studies.engine.task import Task
from studies.main_job import put_working_folder_on_path
from studies.recipes.task import Bits
from studies.recipes.task import Task as RecipeTask
from studies.study.configurations import Configurations
from studies.study.spec import RunSpec
from studies.study.study import Study


def plan(study: Study) -> list[Task]:
    """The runs of a study with their keys, in order. Models and recipes of the user's own lie in the working folder.

    Raises:
        BadInput: a model, recipe, scheme, sampler or conditions that cannot be had or do not fit, or two runs that are
            one.
    """
    put_working_folder_on_path()
    configurations = Configurations(models=8)
    checked: set[tuple[object, ...]] = set()
    tasks: dict[str, Task] = {}
    for spec in study.specs():
        if (combination := _combination(spec)) not in checked:
            _check(configurations, spec)
            checked.add(combination)
        key = configurations.key(spec)
        if key in tasks:
            raise BadInput("runs of a study must differ", got=f"{spec.title} twice", fix="name it once")
        tasks[key] = Task(key, spec)
    return list(tasks.values())


def _combination(spec: RunSpec) -> tuple[object, ...]:
    """What :func:`_check` depends on."""
    return (
        spec.model, spec.sampler, spec.eta, spec.num_inference_steps, spec.recipe, spec.bits, spec.conditioning,
        spec.guidance,
    )  # fmt: skip


def _check(configurations: Configurations, spec: RunSpec) -> None:
    model = configurations.load(spec.model)
    sampler = spec.built_sampler(model)
    conditioning = spec.conditions()
    if conditioning is not None:
        conditioning.of(model, range(1))
    if spec.recipe:
        task = RecipeTask(model, sampler, Bits.parse(spec.bits), conditioning, spec.batch_size)
        spec.found_recipe().require(task)
