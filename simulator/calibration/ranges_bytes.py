"""Ranges as the bytes of a safetensors file, and back, to the last bit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from samplers.errors import BadInput
from simulator.calibration.ranges import Bounds, Ranges
from simulator.calibration.steps import StepSet, StepSets
from simulator.instrument.sites import SiteKey

_ABOUT = "about"


def ranges_to_bytes(ranges: Ranges) -> bytes:
    """Bounds as float64 ``N.low`` and ``N.high``, groups as ``N.group``, the rest as JSON."""
    arrays: dict[str, np.ndarray] = {}
    keys = []
    for number, ((site, role, name), (low, high)) in enumerate(ranges.bounds.items()):
        keys.append([site.module, site.operation, site.call, role, name])
        arrays |= {f"{number}.low": np.asarray(low, order="C"), f"{number}.high": np.asarray(high, order="C")}
        if (group := ranges.groups.get((site, role, name))) is not None:
            arrays[f"{number}.group"] = np.asarray(group, order="C")
    about = {"keys": keys, "source": dict(ranges.source), "steps": [s.config() for s in ranges.steps.sets]}
    arrays[_ABOUT] = np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8)
    return save(arrays)


def ranges_from_bytes(content: bytes) -> Ranges:
    """What :func:`ranges_to_bytes` wrote.

    Raises:
        BadInput: something else.
    """
    try:
        arrays = load(content)
        about: dict[str, Any] = json.loads(arrays.pop(_ABOUT).tobytes())
        bounds: dict[tuple[SiteKey, str, str], Bounds] = {}
        groups = {}
        for number, (module, operation, call, role, name) in enumerate(about["keys"]):
            key = SiteKey(module, operation, call), role, name
            bounds[key] = arrays[f"{number}.low"], arrays[f"{number}.high"]
            if f"{number}.group" in arrays:
                groups[key] = arrays[f"{number}.group"]
        sets = StepSets(tuple(_step_set(**given) for given in about["steps"]))
        return Ranges(bounds, about["source"], sets, groups)
    except BadInput:
        raise
    except (SafetensorError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise BadInput(
            "ranges must be bytes that ranges_to_bytes gave", got=f"{len(content)} bytes ({error})",
            fix="calibrate again",
        ) from None  # fmt: skip


def _step_set(name: str, observed: list[int] | None, serves: list[int] | None) -> StepSet:
    return StepSet(name, None if observed is None else tuple(observed), None if serves is None else tuple(serves))
