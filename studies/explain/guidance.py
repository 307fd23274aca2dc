"""Runs of one system at several guidance weights, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import xarray as xr

from noise_models.assumptions.guidance_dependence import SAMPLES, compare_guidance, without_guidance
from noise_models.correction.scope import SCOPE
from noise_models.inference.verdicts import word


def guidance_comparisons(runs: Sequence[xr.Dataset]) -> list[xr.Dataset]:
    """``compare_guidance`` of all uncorrected runs that differ in their guidance weight alone, against the least."""
    found: dict[str, dict[float, xr.Dataset]] = {}
    for run in runs:
        config = json.loads(run.attrs["config"])
        if run.correction.item() == "none" and config.get("guidance") is not None:
            shared = without_guidance(config)
            key = json.dumps([shared.get(name) for name in (*SCOPE, *SAMPLES)], sort_keys=True)
            found.setdefault(key, {})[config["guidance"]] = run
    return [compare_guidance([own[w] for w in sorted(own)]) for own in found.values() if len(own) > 1]


def guidance_table(compared: xr.Dataset) -> tuple[str, list[str], list[list[str]]]:
    """Title, header and rows: a row per weight."""
    rows = []
    for index, weight in enumerate(compared.guidance.values):
        own = compared.isel(guidance=index)
        row = [f"{weight:g}", f"{float(own.sqnr_db.median()):.1f}"]
        if index == 0:
            rows.append([*row, *("-" for _ in range(6))])
            continue
        for name, middle in (("residual_variance_ratio", "median"), ("slope_change", "largest")):
            values, words = own[name].values, word(own[f"{name}_verdict"])
            value = np.nanmedian(values) if middle == "median" else values[np.nanargmax(abs(values))]
            row.append(f"{float(value):.3g}")
            row += [str(int((words == verdict).sum())) for verdict in ("rises", "falls")]
        rows.append(row)
    header = ["guidance", "SQNR dB", "residual variance", "rises", "falls", "change of k", "rises", "falls"]
    title = f"{compared.scheme.item().upper()}: injected noise by guidance weight, against the least one; steps"
    return title, header, rows
