"""What every rule is made from: each candidate's injected noise at each step, and what it costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from noise_models.correction.fitting import MIN_BLOCKS
from noise_models.correction.scope import require_equal
from noise_models.inference.intervals import LOG, Interval, jackknife
from noise_models.inference.labelled import interval_variables
from noise_models.inference.pooling import Array, Pooled, block_sums
from noise_models.metrics import pooled_sqnr_db
from noise_models.precision.candidates import Candidates
from samplers.errors import BadInput
from simulator.calibration.trajectory import PURPOSE
from simulator.provenance import canonical

DIMS = ("step", "group", "candidate")

SCHEME_FIELDS = ("scheme", "scheme_config")
"""Fields of a configuration that differ between the runs of one measurement."""

_COPIED = ("timestep", "alpha_cumprod", "b")


def candidate_table(
    candidates: Candidates, runs: Sequence[xr.Dataset], bops: ArrayLike, *, confidence: float = 0.95
) -> xr.Dataset:
    """Gather the calibration runs of the candidates into one dataset.

    Args:
        candidates: what was run.
        runs: one per scheme of ``candidates.measured()``, groups outside, candidates inside: purpose "calibrate",
            without a correction, with injected noise, 8 samples or more, all on the same noise.
        bops: (group, candidate) bit operations per sample of one forward pass, of ``candidates.bops``.
        confidence: nominal coverage of the intervals.

    Returns:
        ``noise_power`` (mean of e^2, e = quantized epsilon - epsilon at the same x_t) and ``sqnr_db`` over (step,
        group, candidate), each with its interval; ``signal_power`` (step,); ``bops`` (group, candidate);
        ``activation_bits`` and ``weight_bits`` (candidate,); the sampler's ``b``, ``alpha_cumprod`` and
        ``timestep`` (step,). Groups' noise is that of the group alone, all other sites in float: the noise of several
        is then predicted as the sum of their powers, which leaves out their correlation.

    Raises:
        BadInput: the runs are not these, their noise is not finite, or their epsilon is 0.
    """
    groups, names = candidates.group_names, candidates.names
    wanted = [str(scheme) for row in candidates.measured() for scheme in row]
    configs = [_calibration_config(run) for run in runs]
    found = [config["scheme"] for config in configs]
    if found != wanted:
        raise BadInput("the runs must be those of candidates.measured()", got=found, fix=f"run {', '.join(wanted)}")
    common = _common(configs)
    cost = np.asarray(bops)
    if cost.shape != (len(groups), len(names)) or not np.issubdtype(cost.dtype, np.integer):
        raise BadInput("bops must be integers (group, candidate)", got=cost.shape, fix="use candidates.bops")
    sums = [block_sums(run["epsilon_injected"], run["epsilon_count"], ("channel",)) for run in runs]
    powers = [jackknife(_noise_power, each, scale=LOG, confidence=confidence) for each in sums]
    ratios = [jackknife(pooled_sqnr_db, each, confidence=confidence) for each in sums]
    _require_noise(powers, wanted)
    shape = (len(groups), len(names))
    data: dict[str, Any] = interval_variables(
        "noise_power", _stacked(powers, shape), DIMS, unit="1", long_name="power of injected noise",
        definition="mean of e^2, e = quantized epsilon - epsilon at the same x_t; of a group: alone, the rest in float",
        confidence=confidence, scale="logarithmic",
    )  # fmt: skip
    data |= interval_variables(
        "sqnr_db", _stacked(ratios, shape), DIMS, unit="dB", long_name="SQNR of injected noise",
        definition="10 log10(sum y^2 / sum e^2), y = epsilon, pooled over elements, channels and samples; of a group: "
        "alone, the rest in float",
        confidence=confidence, scale="dB",
    )  # fmt: skip
    signal = sums[0].total().power_y
    if (signal == 0).any():
        raise BadInput("epsilon must not be 0", got=f"0 at step {int(np.argmin(signal))}", fix="check the model")
    data["signal_power"] = xr.Variable(("step",), signal, _attrs("1", "power of epsilon", "mean of y^2, y = epsilon"))
    data["bops"] = xr.Variable(
        DIMS[1:], cost.astype(np.int64),
        _attrs("1", "bit operations", "MACs x bits x bits, per sample and forward pass, of the group's sites"),
    )  # fmt: skip
    for name in ("activation_bits", "weight_bits"):
        what = name.replace("_", " ")
        definition = f"{what} of the candidate's settings, before its rules"
        data[name] = xr.Variable(DIMS[2:], getattr(candidates, name), _attrs("bit", what, definition))
    data |= {name: runs[0][name].variable for name in _COPIED}
    coords = {"group": list(groups), "candidate": list(names)}
    attrs = {
        "config": canonical(common),
        "sampler": canonical(common["sampler"]),
        "measured": canonical({"schemes": wanted}),
    }
    return xr.Dataset(data, coords, attrs)


def _noise_power(pooled: Pooled) -> Array:
    return pooled.power_e


def _require_noise(powers: Sequence[Interval], names: Sequence[str]) -> None:
    for name, power in zip(names, powers, strict=True):
        if not np.isfinite(power.estimate).all():
            raise BadInput(
                "injected noise must be finite",
                got=f"{name} at step {int(np.argmin(np.isfinite(power.estimate)))}",
                fix="leave that candidate out: it diverged",
            )


def _stacked(intervals: Sequence[Interval], shape: tuple[int, int]) -> Interval:
    """Intervals over (step,) as one over (step, group, candidate)."""
    parts = (np.stack(part, axis=-1) for part in zip(*intervals, strict=True))
    return Interval(*(part.reshape(-1, *shape) for part in parts))


def _common(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all runs share: everything but their schemes."""
    common = [{name: value for name, value in config.items() if name not in SCHEME_FIELDS} for config in configs]
    for other in common[1:]:
        require_equal(common[0], other, "candidates must be measured in one system, on the same samples")
    return common[0]


def _calibration_config(run: xr.Dataset) -> dict[str, Any]:
    if "config" not in run.attrs or "epsilon_injected" not in run:
        raise BadInput(
            "a candidate's run needs injected noise", got=", ".join(map(str, run)), fix='run with kinds=("injected",)'
        )
    config: dict[str, Any] = json.loads(run.attrs["config"])
    if config["purpose"] != PURPOSE or config["correction"]["name"] != "none":
        raise BadInput(
            f"candidates are measured on runs of purpose {PURPOSE!r} without a correction",
            got=f"{config['purpose']!r} with {config['correction']['name']}",
            fix=f"run with purpose={PURPOSE!r}, so that other samples evaluate the policy",
        )
    if run.sizes["block"] < MIN_BLOCKS:
        raise BadInput(
            f"a policy needs at least {MIN_BLOCKS} replicate blocks, hence {MIN_BLOCKS} samples",
            got=run.sizes["block"],
            fix="calibrate on more samples",
        )
    return config


def _attrs(units: str, long_name: str, definition: str) -> dict[str, str]:
    return {"units": units, "long_name": long_name, "definition": definition}
