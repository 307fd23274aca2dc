"""The dataset of one run: recorded moments with names, units and provenance."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from samplers.sampler import Sampler
from simulator.correction import Correction
from simulator.decoded import DecodedRecord
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.survey import SiteFacts
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
) -> xr.Dataset:
    """Label what was recorded; keys of ``epsilon`` and ``sites`` are the kinds of noise."""
    arrays = {**_per_step(sampler, correction), **shown}
    for kind, record in epsilon.items():
        arrays[f"epsilon_{kind}"] = record.blocks()
        arrays[f"epsilon_sample_{kind}"] = record.samples()
        arrays["epsilon_count"] = record.count()
    if state is not None:
        arrays["state_accumulated"] = state.blocks()
        arrays["state_sample_accumulated"] = state.samples()
    if decoded is not None:
        arrays |= decoded.arrays()
    for kind, site_record in sites.items():
        arrays[f"site_{kind}"] = site_record.blocks()
        arrays[f"site_clipped_{kind}"] = site_record.clipped
        arrays["site_count"] = site_record.count()
    coords: dict[str, Any] = {"moment": list(moment_names())}
    if sites:
        arrays |= _site_facts(quantized)
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
    attrs = {"config": canonical(config), "key": run_key(config), **environment()}
    data = {name: (BY_NAME[name].dims, array, BY_NAME[name].attrs) for name, array in arrays.items()}
    return xr.Dataset(data, coords=coords, attrs=attrs)


def _per_step(sampler: Sampler, correction: Correction) -> dict[str, np.ndarray]:
    updates = sampler.updates
    used = [correction.update(step, update) for step, update in enumerate(updates)]
    return {
        "timestep": np.array([u.timestep for u in updates], np.int64),
        "alpha_cumprod": np.array([u.alpha_cumprod for u in updates], np.float64),
        "alpha_cumprod_previous": np.array([u.alpha_cumprod_previous for u in updates], np.float64),
        **{name: np.array([getattr(u, name) for u in updates]) for name in "abc"},
        **{f"{name}_used": np.array([getattr(u, name) for u in used]) for name in "abc"},
    }


def _site_facts(quantized: QuantizedModel) -> dict[str, np.ndarray]:
    def bits(facts: SiteFacts) -> tuple[int, int]:
        scheme = quantized.scheme
        weight = 0 if facts.weight_shape is None else scheme.weight_spec(edge=facts.edge).format.bits
        return weight, scheme.activation_spec(edge=facts.edge).format.bits

    weight_bits, activation_bits = np.array([bits(facts) for facts in quantized.sites], np.int64).T
    return {
        "site_operands": np.array([facts.operands for facts in quantized.sites], np.int64),
        "site_macs": np.array([facts.macs for facts in quantized.sites], np.int64),
        "site_weight_bits": weight_bits,
        "site_activation_bits": activation_bits,
    }
