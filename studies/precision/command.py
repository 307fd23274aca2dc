"""``qnoise precision``: from options to a results folder with policies, their table and figures."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.precision.job import DEFAULT_CANDIDATES, PrecisionJob, PrecisionOptions, groups_from_text

if TYPE_CHECKING:
    import xarray as xr

    from studies.precision.run import Found

COMPARISON, CANDIDATES, QUALITY = "comparison.nc", "candidates.nc", "quality.nc"


def run_precision(
    *, out: Path, as_json: bool, candidates: tuple[str, ...], groups: tuple[str, ...], options: dict[str, Any],
    **job_options: Any,
) -> None:  # fmt: skip
    """Run the study, or find it done; leave datasets and figures, and print the table.

    Raises:
        BadInput: before the work, an option that breaks its rule.
    """
    started = time.time()
    import torch  # noqa: F401 - before any kernel, as in ``qnoise run``

    from samplers.errors import BadInput
    from studies.main_job import job_from_options

    names = candidates or DEFAULT_CANDIDATES
    if len(set(names)) < len(names):
        raise BadInput("candidates must differ", got=", ".join(names), fix="name each once")
    job = PrecisionJob(
        job_from_options(schemes=names, **job_options),
        PrecisionOptions(**options, groups=groups_from_text(groups)),
    )
    from simulator.arithmetic.compilation import compiling

    with compiling() as kernels_ready:  # a cold cache fills while float work runs
        comparison, folder, reused = _find_or_compute(job, out, kernels_ready, started)
    _show(comparison, folder, reused, as_json)


def _find_or_compute(
    job: PrecisionJob, out: Path, kernels_ready: Callable[[], None], started: float
) -> tuple[xr.Dataset, Path, bool]:
    """The comparison, its folder, and whether it was there already."""
    from simulator.models.loading import is_factory, load
    from simulator.threads import set_threads
    from studies.console import progress
    from studies.main_job import put_working_folder_on_path
    from studies.precision.run import execute_study, plan_study
    from studies.results import find_or_publish, folder_for, require_writable

    set_threads(job.job.threads)
    if is_factory(job.job.model):
        put_working_folder_on_path()
    model = load(job.job.model)
    study, config = plan_study(job, model), job.config(model)
    require_writable(out)
    folder = folder_for(out, model.name, job.key(model), "precision")

    def compute() -> dict[str, bytes]:
        with progress() as report:
            found = execute_study(study, report, kernels_ready)
        return _files(found, config, started)

    (comparison, *_), reused = find_or_publish(folder, config, compute)
    return comparison, folder, reused


def _files(found: Found, config: dict[str, Any], started: float) -> dict[str, bytes]:
    """Every file of the results folder, by name."""
    import matplotlib

    matplotlib.use("agg")
    from studies.plots.bits import bits_figure
    from studies.plots.pareto import pareto_figure
    from studies.plots.style import figure_bytes
    from studies.results import complete, run_file
    from studies.store.files import dataset_bytes

    comparison = found.comparison.assign_attrs(same=json.dumps(dict(found.same), sort_keys=True))
    files = {COMPARISON: dataset_bytes(comparison), CANDIDATES: dataset_bytes(found.table)}
    files |= {f"policy-{policy.name}.nc": dataset_bytes(policy.dataset()) for policy in found.policies}
    files |= {run_file(run): dataset_bytes(run) for run in found.runs}
    if found.quality is not None:
        files[QUALITY] = dataset_bytes(found.quality)
    for name, figure in (("bits", bits_figure(comparison)), ("pareto", pareto_figure(comparison))):
        for suffix in ("pdf", "png"):
            files[f"{name}.{suffix}"] = figure_bytes(figure, suffix)
    return complete(files, config, [COMPARISON, CANDIDATES], started)


def precision_rows(comparison: xr.Dataset) -> list[dict[str, Any]]:
    """One row per policy, uniform widths first; the others are held against the uniform width nearest in cost."""
    rows = []
    same: dict[str, list[str]] = {}
    for alias, name in json.loads(comparison.attrs.get("same", "{}")).items():
        same.setdefault(name, []).append(alias)
    cost = comparison.total_bops
    for name in comparison.policy.values:
        own = comparison.sel(policy=name)
        others = [base for base in comparison.baseline.values if name not in comparison.baseline.values]
        base = min(others, key=lambda base: abs(int(cost.sel(policy=base)) - int(own.total_bops)), default=None)
        row: dict[str, Any] = {
            "policy": str(name),
            "same": same.get(str(name), []),
            "total_bops": int(own.total_bops),
            "mean_activation_bits": float(own.mean_activation_bits),
            "injected_median_db": float(own.injected_sqnr_db.median()),
            "final_sqnr_db": float(own.final_sqnr_db),
            "final_sqnr_db_low": float(own.final_sqnr_db_low),
            "final_sqnr_db_high": float(own.final_sqnr_db_high),
            "final_median_db": float(own.final_median_db),
            "final_noise_power": float(own.final_noise_power),
            "predicted_noise_power": float(own.predicted_noise_power),
            "frechet_distance": float(own.frechet_distance) if "frechet_distance" in own else None,
            "baseline": None if base is None else str(base),
        }
        for end in ("", "_low", "_high"):
            found = None if base is None else own[f"final_difference_db{end}"].sel(baseline=base)
            row[f"final_difference_db{end}"] = None if found is None else float(found)
        rows.append(row)
    return rows


def _show(comparison: xr.Dataset, folder: Path, reused: bool, as_json: bool) -> None:
    from studies.console import print_json, print_table
    from studies.results import found_or_wrote

    rows = precision_rows(comparison)
    if as_json:
        print_json({"folder": str(folder), "reused": reused, "policies": rows})
        return
    header = [
        "policy",
        "BOPs",
        "bits",
        "injected",
        "x0",
        "95 %",
        "median x0",
        "noise",
        "predicted",
        "against",
        "x0 gain",
    ]
    header += ["95 %"]
    if measured := any(row["frechet_distance"] is not None for row in rows):
        header.append("Frechet")
    print_table(f"Policies: bit operations against the final sample's SQNR in dB, {_title(comparison)}", header, [
        _cells(row, measured) for row in rows
    ])  # fmt: skip
    for row in rows:
        for alias in row["same"]:
            print(f"{alias} chose as {row['policy']} and was not run again")
    print("BOPs: per sample over all steps; bits: mean activation bits; injected: epsilon, median over steps;")
    print("x0: final sample, pooled over samples, with its interval, and its median over samples;")
    print("noise: power of the final sample's noise, measured and predicted from the calibration samples;")
    print("against: the uniform width nearest in BOPs, and the paired difference of x0 to it")
    if "frechet_distance" in comparison:
        print(f"Frechet: {comparison.frechet_distance.attrs['definition'].rpartition('; ')[2]};")
        print(f"floors, distances of infinitely many samples and KID with intervals: {QUALITY}")
    print(found_or_wrote(folder, reused))


def _title(comparison: xr.Dataset) -> str:
    config = json.loads(comparison.attrs["config"])
    return f"{config['model']}, {config['sampler']['name']}, {comparison.sizes['step']} steps"


def _cells(row: dict[str, Any], measured: bool) -> list[str]:
    def db(value: float | None, sign: str = "") -> str:
        return "-" if value is None or math.isnan(value) else f"{value:{sign}.1f}"

    def ends(name: str, sign: str = "") -> str:
        return "-" if row[f"{name}_low"] is None else f"{db(row[f'{name}_low'], sign)}..{db(row[f'{name}_high'], sign)}"

    cells = [
        row["policy"], f"{row['total_bops']:.4g}", f"{row['mean_activation_bits']:.2f}", db(row["injected_median_db"]),
        db(row["final_sqnr_db"]), ends("final_sqnr_db"), db(row["final_median_db"]),
        f"{row['final_noise_power']:.2e}", f"{row['predicted_noise_power']:.2e}", row["baseline"] or "-",
        db(row["final_difference_db"], "+"), ends("final_difference_db", "+"),
    ]  # fmt: skip
    value = row["frechet_distance"]
    return cells + ([("-" if value is None or math.isnan(value) else f"{value:.3g}")] if measured else [])
