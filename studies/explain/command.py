"""``qnoise explain``: what the noise of runs is made of, and what corrections assume of it."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from studies.explain.runs import Runs


def explain(
    *, sources: tuple[Path, ...], conditioning: Path | None, weights: tuple[float, ...], schemes: tuple[str, ...],
    keep: int, method: str, out: Path, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Analyse stored runs, or make the runs and analyse them; leave datasets and figures, and print the tables.

    Raises:
        BadInput: an option breaks its rule, or the source is no run and no results folder.
    """
    import torch  # noqa: F401 - before any kernel, so that both use torch's OpenMP pool and not one each

    from noise_models.inference.replication import METHODS
    from samplers.validation import require_choice
    from studies.explain.guidance import guidance_comparisons
    from studies.explain.runs import computed, stored

    require_choice("method", method, METHODS)
    if sources:
        runs = stored(*sources)
    else:
        runs = computed(schemes, keep, out, weights, {"conditioning": conditioning, **options})
    explained = _analyse(runs, conditioning, method)
    compared = guidance_comparisons(runs.evaluated)
    _show(explained, compared, _publish(runs, explained, compared, method, out), as_json)


def _analyse(runs: Runs, conditioning: Path | None, method: str) -> list[xr.Dataset]:
    from studies.explain.classes import classes
    from studies.explain.explanation import explain_run

    plain = {_system(run): run for run in runs.evaluated if run.correction.item() == "none"}
    fits = {_system(fit): fit for fit in runs.fits}
    return [
        explain_run(
            run, fit=fits.get(_system(run)), plain=plain.get(_system(run)), groups=classes(run, conditioning),
            method=method,
        )
        for run in runs.evaluated
    ]  # fmt: skip


def _publish(runs: Runs, explained: list[xr.Dataset], compared: list[xr.Dataset], method: str, out: Path) -> Path:
    """The folder of datasets and figures, written unless it is there."""
    from simulator.provenance import NUMERICS_VERSION, run_key
    from studies.results import AlreadyThere, folder_for, json_bytes, publishing, require_writable, run_file
    from studies.store.files import dataset_bytes, write

    started = time.time()
    config = {**runs.config, "method": method, "numerics_version": NUMERICS_VERSION}
    if any("assumptions_class_share" in each for each in explained):  # the same runs may be analysed without
        config["classes"] = True
    require_writable(out)
    folder = folder_for(out, runs.name, run_key(config), "explained")
    if not folder.exists():
        named = zip(runs.evaluated, explained, strict=True)
        files = {f"explained-{run_file(run)}": dataset_bytes(each) for run, each in named}
        files |= {f"guidance-{each.scheme.item()}-{each.attrs['key'][:8]}.nc": dataset_bytes(each) for each in compared}
        files |= _figures(runs.evaluated)
        files["explained.json"] = json_bytes({"config": config, "files": sorted(files)})
        files["log.json"] = json_bytes({"seconds": round(time.time() - started, 3), "started": started})
        with suppress(AlreadyThere), publishing(folder) as temporary:  # there: the same analysis, made meanwhile
            for file, content in files.items():
                write(temporary / file, content)
    return folder


def _system(run: xr.Dataset) -> str:
    """What a run shares with its calibration run and its uncorrected twin: all that a fit depends on."""
    from noise_models.correction.scope import SCOPE
    from simulator.provenance import canonical

    config = json.loads(run.attrs["config"])
    return canonical({field: config.get(field) for field in SCOPE})


def _figures(runs: list[xr.Dataset]) -> dict[str, bytes]:
    """Every figure that the runs allow, by file name."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    from studies.plots.decomposition import decomposition_figure
    from studies.plots.dependence import step_correlation_figure, whiteness_figure
    from studies.plots.noise_scatter import noise_scatter_figure
    from studies.plots.residuals import normality_figure, residuals_figure
    from studies.plots.style import figure_bytes
    from studies.results import run_file

    figures = {}
    weights: dict[str, list[xr.Dataset]] = {}
    for run in runs:
        weights.setdefault(f"-guidance{float(run.guidance):g}" if "guidance" in run.coords else "", []).append(run)
    for weight, own in weights.items():
        end = weight if len(weights) > 1 else ""
        figures[f"decomposition{end}"] = decomposition_figure(own)
        if all("epsilon_accumulated" in run for run in own):
            figures[f"decomposition-accumulated{end}"] = decomposition_figure(own, "epsilon_accumulated")
    for run in runs:
        if run.correction.item() != "none":
            continue
        stem = Path(run_file(run)).stem
        figures[f"normality-{stem}"] = normality_figure(run)
        if run.sizes.get("kept", 0) >= 3:
            for what, figure in (
                ("scatter", noise_scatter_figure), ("residuals", residuals_figure),
                ("whiteness", whiteness_figure), ("steps", step_correlation_figure),
            ):  # fmt: skip
                figures[f"{what}-{stem}"] = figure(run)
    files = {f"{name}.{kind}": figure_bytes(fig, kind) for name, fig in figures.items() for kind in ("pdf", "png")}
    plt.close("all")
    return files


def _show(explained: list[xr.Dataset], compared: list[xr.Dataset], folder: Path, as_json: bool) -> None:
    from studies.console import print_table
    from studies.explain.guidance import guidance_table
    from studies.explain.tables import assumption_rows, tables

    if as_json:
        summary = [
            {
                "scheme": each.scheme.item(), "correction": each.correction.item(), "key": each.attrs["key"],
                "guidance": float(each.guidance) if "guidance" in each.coords else None,
                "assumptions": assumption_rows(each),
                "tables": [{"title": t, "header": h, "rows": rows} for t, h, rows in tables(each)],
            }
            for each in explained
        ]  # fmt: skip
        by_weight = [dict(zip(("title", "header", "rows"), guidance_table(each), strict=True)) for each in compared]
        print(json.dumps({"folder": str(folder), "runs": summary, "guidance": by_weight}, indent=1, allow_nan=False))
        return
    for each in explained:
        correction = each.correction.item()
        weight = f", guidance {float(each.guidance):g}" if "guidance" in each.coords else ""
        print(f"\n{each.scheme.item().upper()}" + ("" if correction == "none" else f" + {correction.upper()}") + weight)
        for table in tables(each):
            print_table(*table)
        if "assumptions_neighbour_correlation" not in each:
            print("no samples kept whole: nothing is said of pixels and pairs of steps (--keep, or subsample=)")
        if "guidance" in each.coords and "assumptions_class_share" not in each:
            print("classes are not compared: that takes --conditioning with labels, each of two samples or more")
    for each in compared:
        print_table(*guidance_table(each))
    print(
        "k, r2: line of the noise on epsilon; bias: largest channel; slope on output: of the noise on quantized epsilon"
    )
    print(f"samples for k: to know it within 10 % of itself or of {0.01:g}; verdicts come from intervals alone")
    print(f"wrote: {folder}")
