"""One way to name any model: a shipped one, a local diffusers checkpoint, or a user's own network."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from samplers.errors import BadInput, QnoiseError
from samplers.schedule import NoiseSchedule
from simulator.models import registry, subjects
from simulator.models.digest import module_digest
from simulator.models.registry import Model

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OWN = "write a factory as the documentation of simulator.Model shows"


def load(source: str | Path, *, weights: str | Path | None = None) -> Model:
    """Load a model by name, from a folder, or from a function of the user's.

    Args:
        source: ``"digits-unet"`` or ``"digits-unet@1"``, a shipped model; ``"gaussian"``, ``"gaussian-mixture"`` or
            ``"digits-empirical"``, an exact subject (``simulator.models.subjects``); a path with a slash, as in
            ``"./checkpoint"`` or ``"/models/dit"``, or a ``Path``: a local diffusers folder
            (``simulator.models.diffusers``);
            ``"module:factory"``, a function without arguments, of a module that Python can import, that returns a
            :class:`Model`. Commands put the working folder on Python's path, this function does not.
        weights: of shipped models, the folder with manifests and weights files; the package's own if None.

    Raises:
        BadInput: nothing there to load, or what is there breaks a rule.
    """
    if is_folder(source):
        from simulator.models import diffusers

        return diffusers.load(source)
    if is_factory(source):
        return _from_factory(str(source))
    text = str(source)
    if text and not registry.is_shipped(text, weights) and Path(text).is_dir():
        raise BadInput("a folder must be written as a path", got=repr(text), fix=f"write ./{text}")
    if weights is None and subjects.is_subject(text):
        return subjects.load(text)
    try:
        return registry.load(text, weights=weights)
    except BadInput as error:
        if weights is not None or registry.is_shipped(text):
            raise
        known = ", ".join(f"{name}@{subjects.VERSION}" for name in subjects.SUBJECTS)
        raise BadInput(error.rule, got=error.got, fix=f"{error.fix}; exact subjects: {known}") from None


def is_folder(source: str | Path) -> bool:
    """Whether ``source`` is spelled as a path: shipped names and modules have no slash."""
    return isinstance(source, Path) or "/" in source or source in (".", "..", "~")


def is_factory(source: str | Path) -> bool:
    """Whether ``source`` is spelled ``module:name``."""
    return not is_folder(source) and ":" in str(source)


def _from_factory(source: str) -> Model:
    """The model that ``module:factory`` returns, checked, in eval mode, without gradients, with a digest."""
    factory = _factory(source)
    try:
        model = factory()
    except QnoiseError:
        raise
    except Exception as error:  # a user's code may raise anything, and commands promise one line
        raise BadInput(
            "a model's factory must run without arguments", got=f"{source}: {_named(error)}", fix="mend it"
        ) from error
    return _checked(source, model)


def _factory(source: str) -> Callable[[], Any]:
    module, _, name = source.partition(":")
    rule = "a user's model must be written module:factory, which Python can import"
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise BadInput(rule, got=f"{source!r} ({_named(error)})", fix="check spelling and working folder") from error
    if not callable(found):
        raise BadInput(rule, got=f"{source!r}, a {type(found).__name__}", fix="name a function that returns a Model")
    return found


def _checked(source: str, model: Any) -> Model:
    if not isinstance(model, Model):
        raise BadInput("a factory must return a simulator.Model", got=f"{type(model).__name__} from {source}", fix=_OWN)
    for holds, rule, got in (
        (
            isinstance(model.name, str) and _NAME.fullmatch(model.name),
            "name must be letters, digits and ._-",
            model.name,
        ),
        (isinstance(model.version, int) and model.version > 0, "version must be an integer from 1", model.version),
        (isinstance(model.module, nn.Module), "module must be a torch.nn.Module", type(model.module).__name__),
        (
            model.schedule is None or isinstance(model.schedule, NoiseSchedule),
            "schedule must be a NoiseSchedule, or None",
            type(model.schedule).__name__,
        ),
        (
            isinstance(model.sample_shape, tuple) and all(isinstance(n, int) and n > 0 for n in model.sample_shape),
            "sample_shape must be a tuple of positive integers",
            model.sample_shape,
        ),
        (isinstance(model.weights_digest, str), "weights_digest must be a str", type(model.weights_digest).__name__),
    ):
        if not holds:
            raise BadInput(f"a model's {rule}", got=f"{got!r} from {source}", fix=_OWN)
    model.module.eval().requires_grad_(False)
    if model.weights_digest:
        return model
    return dataclasses.replace(model, weights_digest=module_digest(model.module))


def _named(error: Exception) -> str:
    """Type and first line of an error."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
