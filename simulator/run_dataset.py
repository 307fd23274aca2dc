"""The dataset of one run: recorded moments with names, units and provenance."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from samplers.coefficients import timestep_array
from samplers.sampler import Sampler
from simulator.correction import Correction
from simulator.decoded import DecodedRecord
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.weighted_sites import clipped_by_step
from simulator.moments import moment_names
from simulator.provenance import canonical, environment, run_key
from simulator.record import ChannelRecord, SiteRecord
from simulator.variables import BY_NAME


def run_dataset(
    config: dict[str, Any],
    quantized: QuantizedModel,
    correction: Correction,
    sampler: Sampler,
    epsilon: dict[str, ChannelRecord],
    state: ChannelRecord | None,
    sites: dict[str, SiteRecord],
    shown: dict[str, np.ndarray],
    decoded: DecodedRecord | None,
    clipped: np.ndarray | None = None,
    saturated: np.ndarray | None = None,
) -> xr.Dataset:
    """Label what was recorded; keys of ``epsilon`` and ``sites`` are the kinds of noise.

    ``clipped`` counts, per trajectory and step, elements of x0 that the sampler clipped;
    ``saturated`` those of x0 and x that a fixed-point arm holds at an end of its range, per step.
    """
    arrays = {**_per_step(sampler, correction), **shown}
    for kind, record in epsilon.items():
        arrays[f"epsilon_{kind}"] = record.blocks()
        arrays[f"epsilon_sample_{kind}"] = record.samples()
        arrays["epsilon_count"] = record.count()
    if state is not None:
        arrays["state_accumulated"] = state.blocks()
        arrays["state_sample_accumulated"] = state.samples()
    if clipped is not None:
        arrays |= {"x0_clipped_reference": clipped[0], "x0_clipped_accumulated": clipped[1]}
    if saturated is not None:
        arrays["state_saturated_accumulated"] = saturated
    if decoded is not None:
        arrays |= decoded.arrays()
    for kind, site_record in sites.items():
        arrays[f"site_{kind}"] = site_record.blocks()
        arrays[f"site_clipped_{kind}"] = site_record.clipped
        if _may_lose(quantized, len(sampler.updates)):
            arrays[f"site_overflowed_{kind}"] = site_record.overflowed
            arrays[f"site_saturated_{kind}"] = site_record.saturated
        arrays["site_count"] = site_record.count()
    coords: dict[str, Any] = {"moment": list(moment_names())}
    if sites:
        arrays |= _site_facts(quantized, len(sampler.updates))
        coords["site"] = [str(facts.key) for facts in quantized.sites]
    coords |= {
        "model": config["model"],
        "scheme": config["scheme"],
        "correction": correction.name,
        "target": config["target"],
        "sampler": sampler.name,
        "eta": float(config["sampler"].get("eta", np.nan)),
        "seed": config["seed"],
    }
    if "guidance" in config:
        coords["guidance"] = config["guidance"]
    attrs = {"config": canonical(config), "key": run_key(config), **environment()}
    data = {name: (BY_NAME[name].dims, array, BY_NAME[name].attrs) for name, array in arrays.items()}
    return xr.Dataset(data, coords=coords, attrs=attrs)


def _per_step(sampler: Sampler, correction: Correction) -> dict[str, np.ndarray]:
    updates = sampler.updates
    used = [correction.update(step, update) for step, update in enumerate(updates)]
    return {
        "timestep": timestep_array(updates),
        "alpha_cumprod": np.array([u.alpha_cumprod for u in updates], np.float64),
        "alpha_cumprod_previous": np.array([u.alpha_cumprod_previous for u in updates], np.float64),
        **{name: np.array([getattr(u, name) for u in updates]) for name in "abc"},
        **{f"{name}_used": np.array([getattr(u, name) for u in used]) for name in "abc"},
    }


def _site_facts(quantized: QuantizedModel, steps: int) -> dict[str, np.ndarray]:
    """Bits stand by step and site where the scheme's rules name steps, else by site; so do clipped weights."""
    facts = quantized.sites
    told = range(steps) if _by_step(quantized) else (0,)
    plan = [[quantized.plan.at(f.key, step) for f in facts] for step in told]
    bits = {
        "weight_bits": np.array([[treatment.weight_bits for treatment in row] for row in plan], np.int64),
        "activation_bits": np.array([[treatment.activation_bits for treatment in row] for row in plan], np.int64),
    }
    if quantized.ranges.weights:
        lost = clipped_by_step(quantized, told)
        bits["weight_clipped"] = np.array([[counts.get(f.key, 0) for f in facts] for counts in lost], np.int64)
    if _by_step(quantized):
        named = {f"site_step_{name}": array for name, array in bits.items()}
    else:
        named = {f"site_{name}": array[0] for name, array in bits.items()}
    return {
        "site_operands": np.array([f.operands for f in facts], np.int64),
        "site_macs": np.array([f.macs for f in facts], np.int64),
        **named,
    }


def _by_step(quantized: QuantizedModel) -> bool:
    return quantized.scheme.has_steps


def _may_lose(quantized: QuantizedModel, steps: int) -> bool:
    """Whether a register or an output can lose anything anywhere: else nothing is stored of it."""
    return any(quantized.plan.at(f.key, step).may_lose for f in quantized.sites for step in range(steps))
