"""Intervals as labelled variables, so that every result says its unit, its definition and its confidence."""

from __future__ import annotations

import numpy as np
import xarray as xr

from noise_models.inference.intervals import REASONS, Interval
from samplers.errors import BadInput
from simulator.variables import BY_NAME

REPLICATE = "interval over replicate blocks of samples"


def interval_variables(
    name: str,
    interval: Interval,
    dims: tuple[str, ...],
    *,
    unit: str,
    long_name: str,
    definition: str,
    confidence: float,
    scale: str = "its own",
    method: str = "jackknife",
) -> dict[str, xr.Variable]:
    """``name`` with ``_standard_error``, ``_low``, ``_high`` and ``_reason`` (why the ends are NaN, CF flags)."""

    def variable(values: np.ndarray, prefix: str) -> xr.Variable:
        return xr.Variable(dims, values, {"units": unit, "long_name": f"{prefix}{long_name}", "definition": definition})

    jackknife = f"block jackknife, formed on the {scale} scale"
    how = {"jackknife": jackknife, "bootstrap": "block bootstrap, BCa"}.get(method, method)
    formed = {"confidence": confidence, "interval": how}
    result = {
        name: variable(interval.estimate, ""),
        f"{name}_standard_error": variable(interval.standard_error, "standard error of "),
        f"{name}_low": variable(interval.low, "lower end of "),
        f"{name}_high": variable(interval.high, "upper end of "),
    }
    for end in ("low", "high"):
        result[f"{name}_{end}"].attrs |= formed
    reason_attrs = {
        "units": "1",
        "long_name": f"why the interval of {long_name} is undefined",
        "flag_values": np.arange(len(REASONS), dtype=np.int8),
        "flag_meanings": " ".join(REASONS),
    }
    return result | {f"{name}_reason": xr.Variable(dims, interval.reason, reason_attrs)}


def result_dataset(source: xr.Dataset, variable: str, data: dict[str, xr.Variable]) -> xr.Dataset:
    """``data`` with those coordinates of ``source`` that still apply, the timestep of each step among them."""
    dims = {dim for values in data.values() for dim in values.dims}
    coords = {name: coord for name, coord in source.coords.items() if set(coord.dims) <= dims}
    if "timestep" in source and set(source["timestep"].dims) <= dims:
        coords["timestep"] = source["timestep"]
    attrs = {"source": variable, **{name: source.attrs[name] for name in ("key", "config") if name in source.attrs}}
    return xr.Dataset(data, coords=coords, attrs=attrs)


def recorded(dataset: xr.Dataset, variable: str) -> tuple[xr.DataArray, xr.DataArray]:
    """A moment variable of a run and the elements behind each of its entries.

    Raises:
        BadInput: ``variable`` is no moment variable per block, or the run did not record it.
    """
    known = [name for name, facts in BY_NAME.items() if {"block", "moment"} <= set(facts.dims)]
    if variable not in known or variable not in dataset:
        raise BadInput(
            "the dataset must hold the named moments per block",
            got=f"{variable!r} of a dataset with {', '.join(n for n in known if n in dataset) or 'no moments'}",
            fix="name one that it holds, or record that kind of noise",
        )
    counts = {"site": "site_count", "decoded": "decoded_count"}
    return dataset[variable], dataset[counts.get(variable.split("_")[0], "epsilon_count")]


def channel_dims(moments: xr.DataArray) -> tuple[str, ...]:
    """The dimension of channels, of x_t or of decoded pixels, if the moments have one."""
    return tuple(dim for dim in ("channel", "image_channel") if dim in moments.dims)


def meaning(variable: str) -> str:
    """What y and e are in a recorded variable."""
    return BY_NAME[variable].definition
