"""Candidate tables of planted noise: what ``candidate_table`` gives, without a run."""

from __future__ import annotations

import numpy as np
import xarray as xr
from planted_noise import CONFIG, SAMPLER

from noise_models.precision.candidates import Candidates
from noise_models.precision.measurement import DIMS
from simulator.instrument.scheme import Scheme
from simulator.provenance import canonical


def candidates(*names: str, groups: dict | None = None) -> Candidates:
    return Candidates(tuple(Scheme.parse(name) for name in names), groups or {})


def planted_table(chosen: Candidates, sqnr_db, *, half=0.0, abar=None, b=None, bops=None, signal=1.0) -> xr.Dataset:
    """SQNR (step, candidate) or (step, group, candidate) with an interval of +-half; costs are widths if absent."""
    values = np.asarray(sqnr_db, np.float64)
    values = values[:, None] if values.ndim == 2 else values
    steps, groups, _ = values.shape
    costs = np.tile(chosen.activation_bits, (groups, 1)) if bops is None else np.asarray(bops)
    data = {
        "sqnr_db": (DIMS, values),
        "sqnr_db_low": (DIMS, values - half),
        "sqnr_db_high": (DIMS, values + half),
        "noise_power": (DIMS, signal * 10 ** (-values / 10)),
        "signal_power": ("step", np.full(steps, signal)),
        "bops": (DIMS[1:], costs.astype(np.int64)),
        "activation_bits": ("candidate", chosen.activation_bits),
        "alpha_cumprod": ("step", np.full(steps, 0.5) if abar is None else np.asarray(abar, float)),
        "b": ("step", np.ones(steps) if b is None else np.asarray(b, float)),
        "timestep": ("step", np.arange(steps)[::-1].copy()),
    }
    config = {name: value for name, value in CONFIG.items() if name != "scheme"}
    attrs = {"config": canonical(config), "sampler": canonical(SAMPLER.config())}
    return xr.Dataset(data, {"group": list(chosen.group_names), "candidate": list(chosen.names)}, attrs)
