"""Does the noise depend on the guidance weight? Runs that differ in it alone, compared on the same samples.

Guidance w scales the difference of two predictions, and so, in first order, what quantization adds to each. A fit made
at one weight is then a fit for that weight only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from noise_models.correction.scope import require_same_scope
from noise_models.decomposition.drift import changes
from noise_models.decomposition.split import decompose
from noise_models.metrics import sqnr_db
from samplers.errors import BadInput

SAMPLES = ("purpose", "seed", "samples", "conditions")
"""Fields of a configuration that say which samples are run."""


def compare_guidance(
    runs: Sequence[xr.Dataset], variable: str = "epsilon_injected", *, confidence: float = 0.95
) -> xr.Dataset:
    """Decomposition and SQNR along ``guidance``, and changes against the first run, with intervals.

    Args:
        runs: two or more of one system on one noise stream, of distinct guidance weights and nothing else distinct but
            the guidance under which ranges were calibrated.
        variable: moments of epsilon.
        confidence: nominal coverage.

    Returns:
        Over (guidance, step): ``slope``, ``residual_variance``, ``sqnr_db``, with their intervals, and ``bias``
        (guidance, step, channel); against the first run ``slope_change``, ``bias_change`` and
        ``residual_variance_ratio`` with intervals and verdicts. The first run's changes are 0 and its ratio 1.

    Raises:
        BadInput: fewer runs than two, a run without guidance in its key, equal weights, or runs that differ otherwise,
            in the samples or their conditions too.
    """
    weights = _weights(runs)
    parts = []
    for run in runs:
        own = decompose(run, variable, confidence=confidence)
        kept = [n for n in own if str(n).startswith(("slope", "bias", "residual_variance"))]
        change = changes(run, variable, runs[0], variable, confidence=confidence)
        parts.append(
            xr.merge(
                [each.drop_vars("guidance", errors="ignore") for each in
                 (own[kept], sqnr_db(run, variable, confidence=confidence), change)],
                combine_attrs="override", compat="override",
            )
        )  # fmt: skip
    joined = xr.concat(parts, xr.Variable("guidance", weights, {"long_name": "guidance weight"}), join="exact",
                       coords="minimal", compat="override", combine_attrs="override")  # fmt: skip
    return joined.assign_attrs(source=variable, config=runs[0].attrs["config"])


def _weights(runs: Sequence[xr.Dataset]) -> np.ndarray:
    if len(runs) < 2:
        raise BadInput("a dependence needs two runs or more", got=len(runs), fix="run with several guidance weights")
    configs = [json.loads(run.attrs.get("config", "{}")) for run in runs]
    weights = [config.get("guidance") for config in configs]
    if None in weights or len(set(weights)) < len(weights):
        raise BadInput("runs must have guidance weights, each once", got=weights, fix="run with conditions")
    first, *others = (without_guidance(config) for config in configs)
    for other in others:
        require_same_scope(first, other, "a comparison")
        for field in SAMPLES:
            if first.get(field) != other.get(field):
                raise BadInput(
                    f"runs that are compared sample by sample must have one {field}",
                    got=f"{first.get(field)!r} and {other.get(field)!r}", fix="run all on the same samples",
                )  # fmt: skip
    return np.array(weights, np.float64)


def without_guidance(config: dict[str, Any]) -> dict[str, Any]:
    """A run's configuration less the weight, in its ranges too, and less what unconditional passes are given."""
    own = {name: value for name, value in config.items() if name != "guidance"}
    if "conditions" in own:  # at weight 1 there are no unconditional passes, and no null among the conditions
        own["conditions"] = {n: d for n, d in own["conditions"].items() if not n.startswith("null.")}
    if "ranges" in own:
        own["ranges"] = without_guidance(own["ranges"])
    return own
