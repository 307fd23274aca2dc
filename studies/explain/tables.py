"""What ``qnoise explain`` prints of a run: decomposition by step, sites, drift, held-out power, assumptions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from noise_models.assumptions.table import ASSUMPTIONS
from noise_models.inference.sample_size import samples_needed
from noise_models.inference.verdicts import word
from studies.explain.explanation import has

ROWS = 10
SITES = 8
K_FLOOR = 0.01
"""Slopes below are not worth samples: they explain a ten-thousandth of the signal's power."""

Table = tuple[str, list[str], list[list[str]]]


def tables(explained: xr.Dataset) -> list[Table]:
    """Title, header and rows of each table."""
    found = [_steps(explained)]
    if has(explained, "held_out"):
        found.append(_held_out(explained))
    if has(explained, "sites"):
        found.append(_sites(explained))
    for prefix, title in (
        ("drift", "Drift: accumulated against injected noise"),
        ("correction", "Accumulated noise against the uncorrected run's"),
    ):
        if has(explained, prefix):
            found.append(_drift(explained, prefix, title))
    found.append(_assumptions(explained))
    return found


def interval(explained: xr.Dataset, name: str, *, digits: int = 4, **at: int) -> str:
    """``estimate [low, high]`` of one entry; of several channels, the largest by size."""
    here = explained[[name, f"{name}_low", f"{name}_high"]].isel(at)
    if "channel" in here.dims:
        here = here.isel(channel=int(np.argmax(abs(here[name]).fillna(0).values)))
    value, low, high = (float(here[f"{name}{end}"]) for end in ("", "_low", "_high"))
    if math.isnan(value):
        return "-"
    return f"{value:.{digits}g} [{low:.{digits - 1}g}, {high:.{digits - 1}g}]"


def shown(explained: xr.Dataset) -> list[int]:
    """The steps that tables show."""
    return [int(step) for step in np.unique(np.linspace(0, explained.sizes["step"] - 1, ROWS).round())]


def _steps(explained: xr.Dataset) -> Table:
    needed = samples_needed(explained, "decomposition_slope", relative=0.1, floor=K_FLOOR)
    names = ("slope", "r_squared", "bias", "residual_variance")
    rows = [
        [
            str(int(explained.timestep[step])),
            f"{float(explained.sqnr_sqnr_db[step]):.1f}",
            *(interval(explained, f"decomposition_{name}", step=step) for name in names),
            interval(explained, "observable_slope", step=step),
            "-" if np.isnan(needed[step]) else f"{int(needed[step]):,}",
        ]
        for step in shown(explained)
    ]
    header = ["t", "SQNR dB", "k", "r2", "bias", "residual variance", "slope on output", "samples for k"]
    return "Injected noise of epsilon by step, with 95 % intervals over samples", header, rows


def _held_out(explained: xr.Dataset) -> Table:
    rows = []
    for index, predictor in enumerate(explained.predictor.values):
        words = word(explained.held_out_noise_verdict)[index]
        share = explained.held_out_explained_share[index]
        best, worst = int(np.nanargmax(share.values)), int(np.nanargmin(share.values))
        rows.append([
            str(predictor), f"{100 * float(share.median()):.1f}",
            *(f"{interval(explained, 'held_out_explained_share', digits=3, predictor=index, step=step)} "
              f"t={int(explained.timestep[step])}" for step in (best, worst)),
            *(str(int((words == name).sum())) for name in ("falls", "rises", "inconclusive")),
        ])  # fmt: skip
    header = ["predictor", "median %", "best share", "worst share", "falls", "rises", "inconclusive"]
    return "Share of noise power explained on held-out samples, by step", header, rows


def _sites(explained: xr.Dataset) -> Table:
    peak = explained.sites_r_squared.fillna(-1.0)
    order = np.argsort(-peak.max("step").values, kind="stable")[:SITES]
    rows = []
    for site in order:
        step = int(peak.isel(site=site).argmax("step"))
        at = {"site": int(site), "step": step}
        rows.append([
            str(explained.site.values[site]), str(int(explained.timestep[step])),
            *(interval(explained, f"sites_{name}", **at) for name in ("slope", "r_squared", "residual_variance")),
        ])  # fmt: skip
    header = ["site", "at t", "k", "r2", "residual variance"]
    return f"Sites whose noise follows their signal most, {len(rows)} of {explained.sizes['site']}", header, rows


def _drift(explained: xr.Dataset, prefix: str, title: str) -> Table:
    rows = []
    for name in ("slope_change", "bias_change", "residual_variance_ratio"):
        words = word(explained[f"{prefix}_{name}_verdict"])
        rows.append([
            name.replace("_", " "),
            *(str(int((words == verdict).sum())) for verdict in ("rises", "falls", "inconclusive")),
            *(interval(explained, f"{prefix}_{name}", step=step) for step in _thirds(explained)),
        ])  # fmt: skip
    at = [f"t={int(explained.timestep[step])}" for step in _thirds(explained)]
    return title, ["quantity", "rises", "falls", "inconclusive", *at], rows


def _thirds(explained: xr.Dataset) -> list[int]:
    last = explained.sizes["step"] - 1
    return sorted({0, last // 2, last})


def _assumptions(explained: xr.Dataset) -> Table:
    return (
        "Assumptions about the residual: verdicts by step (pairs of steps), from intervals and margins",
        ["claim", "effect", "margin", "holds", "violated", "inconclusive", "farthest from 0"],
        [
            [
                row["claim"], row["effect"], f"{row['margin']:g}", str(row["holds"]), str(row["violated"]),
                str(row["inconclusive"]), row["farthest"],
            ]
            for row in assumption_rows(explained)
        ],
    )  # fmt: skip


def assumption_rows(explained: xr.Dataset) -> list[dict[str, Any]]:
    """One row per assumption that was tested: its effect and margin, counts of verdicts, the largest effect."""
    rows = []
    for one in ASSUMPTIONS:
        name, verdict = f"assumptions_{one.effect}", f"assumptions_{one.verdict}"
        if verdict not in explained:
            continue
        words, effect = word(explained[verdict]), abs(explained[name]).fillna(0)
        upper = np.triu(np.ones(words.shape, bool), 1) if words.ndim == 2 else np.ones(words.shape, bool)
        place = np.unravel_index(int(np.argmax(np.where(upper, effect, -1.0))), words.shape)
        at = dict(zip(map(str, effect.dims), map(int, place), strict=True))
        where = " and ".join(str(int(explained.timestep[step])) for step in at.values())
        rows.append(
            {
                "claim": one.claim,
                "effect": one.effect,
                "margin": float(explained[verdict].attrs["margin"]),
                **{name: int((words[upper] == name).sum()) for name in ("holds", "violated", "inconclusive")},
                "farthest": f"{interval(explained, name, digits=3, **at)} t={where}",
            }
        )
    return rows
