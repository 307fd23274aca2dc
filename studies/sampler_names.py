"""Samplers by the names of the command line, and their knobs as text. Nothing heavy is imported at import.

Knobs have diffusers' names: ``--sampler dpm-solver++ --knob solver_order=1 --knob use_karras_sigmas=true``. A sampler's
name may bring them along, after a colon: ``dpm-solver++:solver_order=1,use_karras_sigmas=true``, ``ddim:0.5`` (eta) and
``ddpm:fixed_large`` (variance_type).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from samplers.errors import BadInput

if TYPE_CHECKING:
    from samplers.method import Method
    from simulator.models.registry import Model

_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIM", {}),
    "ddpm": ("DDPM", {}),
    "plms": ("PLMS", {}),
    "euler": ("Euler", {}),
    "euler-ancestral": ("EulerAncestral", {}),
    "heun": ("Heun", {}),
    "dpm-solver++": ("DPMSolver", {}),
    "sde-dpm-solver++": ("DPMSolver", {"algorithm_type": "sde-dpmsolver++"}),
}
SAMPLERS = tuple(_KINDS)

_ALONE = {"ddim": "eta", "ddpm": "variance_type"}
"""What a value without a name is, after the colon of a sampler's name."""

_NO_KNOBS = ("schedule", "num_inference_steps", "prediction_type", "eta", "algorithm_type")
"""Arguments that follow from the model and from options of their own."""

Knobs = tuple[tuple[str, Any], ...]


def read_sampler(text: str, eta: float | None = None, knobs: tuple[str, ...] = ()) -> tuple[str, float | None, Knobs]:
    """Name, eta (0 for DDIM unless given) and knobs, from ``NAME`` or ``NAME:VALUE,...`` and options of their own.

    Raises:
        BadInput: no such sampler or knob, or something named twice.
    """
    name, _, rest = text.partition(":")
    require_sampler(name)
    alone = _ALONE.get(name)
    own = []
    for value in filter(None, rest.split(",")):
        spelled = value if "=" in value or alone is None else f"{alone}={value}"
        if not spelled.startswith("eta="):
            own.append(spelled)
        elif eta is not None:
            raise BadInput("eta must be named once", got=f"{text} and eta {eta:g}", fix="drop one of them")
        else:
            eta = _value("eta", spelled.removeprefix("eta="), 0.0)
    if name == "ddim" and eta is None:
        eta = 0.0
    texts = (*own, *knobs)
    return name, eta, read_knobs(name, texts) if texts else ()


def spell(sampler: str, eta: float | None, knobs: Knobs) -> str:
    """What ``read_sampler`` reads back, short."""
    values = [] if eta is None else [f"{eta:g}"]
    values += [str(value) if name == _ALONE.get(sampler) else f"{name}={value}" for name, value in knobs]
    return sampler + (":" + ",".join(values) if values else "")


def read_knobs(sampler: str, texts: tuple[str, ...]) -> Knobs:
    """Knobs of a sampler from ``name=value``, in order of names.

    Raises:
        BadInput: no such knob, one named twice, or a value of another type.
    """
    known = _known(sampler)
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in known or name in found:
            raise BadInput(
                f"a knob must be name=value, each name once, of {', '.join(known)}",
                got=repr(text),
                fix="name one that the sampler has",
            )
        found[name] = _value(name, value, known[name])
    return tuple(sorted(found.items()))


def build_sampler(sampler: str, model: Model, num_inference_steps: int, eta: float | None, knobs: Knobs) -> Method:
    """The sampler on a model's schedule.

    Raises:
        BadInput: a step count, eta or knob that breaks its rule.
    """
    import samplers
    from samplers.schedule import require_schedule

    kind, fixed = _KINDS[sampler]
    own = {} if eta is None else {"eta": eta}
    return getattr(samplers, kind)(
        require_schedule(model.schedule),
        num_inference_steps,
        prediction_type=model.prediction_type,
        **fixed,
        **own,
        **dict(knobs),
    )


def sampler_of(config: Mapping[str, Any]) -> Method:
    """The sampler whose ``config()`` this is, as stored with a run.

    Raises:
        BadInput: it clips x0, which its configuration does not say how, or is of another version.
    """
    import samplers
    from samplers.schedule import NoiseSchedule

    given = dict(config)
    name, schedule = given.pop("name", None), given.pop("schedule", None)
    if name not in _KINDS or "clipping" in given:
        raise BadInput("a stored sampler must be a known one that does not clip x0", got=name, fix="use other runs")
    try:
        return getattr(samplers, _KINDS[name][0])(NoiseSchedule(**schedule), **given)  # type: ignore[no-any-return]
    except TypeError as error:
        raise BadInput("a stored sampler must be of this version", got=f"{name} ({error})", fix="run again") from None


def title(sampler: str, eta: float | None, knobs: Knobs) -> str:
    """For figures and progress lines."""
    shown = {"ddim": "DDIM", "ddpm": "DDPM", "plms": "PLMS"}.get(sampler, sampler)
    extras = [] if eta is None else [f"eta {eta:g}"]
    return ", ".join([shown, *extras, *(f"{name} {value}" for name, value in knobs)])


def require_sampler(sampler: str) -> None:
    """Refuse an unknown name.

    Raises:
        BadInput: it is none of ``SAMPLERS``.
    """
    if sampler not in SAMPLERS:
        raise BadInput(f"sampler must be one of {', '.join(SAMPLERS)}", got=repr(sampler), fix="choose one")


def _known(sampler: str) -> dict[str, Any]:
    """Names of a sampler's knobs with their defaults."""
    import samplers

    require_sampler(sampler)
    fields = dataclasses.fields(getattr(samplers, _KINDS[sampler][0]))
    return {field.name: field.default for field in fields if field.name not in _NO_KNOBS}


def _value(name: str, text: str, default: Any) -> Any:
    kind = float if default is None else type(default)
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise BadInput(f"{name} must be {_KIND_NAMES[kind]}", got=repr(text), fix=f"the default is {default}") from None


_KIND_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
