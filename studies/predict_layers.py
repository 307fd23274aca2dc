"""``qnoise predict-layers``: each site's noise predicted from ranges and bits, beside what its arithmetic gives."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from samplers.sampler import Sampler
    from simulator.instrument.scheme import Scheme
    from simulator.models.conditioning import Conditioning
    from simulator.models.registry import Model
    from studies.job import Job

SCHEMES = ("w8a8", "w6a6", "w4a8", "w4a4")
MISS_DB = 3.0
"""Sites off by more than this are listed with their cause."""


def run_predict_layers(*, out: Path, as_json: bool, schemes: tuple[str, ...], **options: Any) -> None:
    """Observe, predict, measure and compare; leave a file per scheme and a figure, and print the tables.

    Ranges come from samples of the "calibrate" stream, operands are observed on those of "observe", noise is measured
    on those of "evaluate".

    Raises:
        BadInput: before the work, an option that breaks its rule.
    """
    started = time.time()
    import torch  # noqa: F401 - before any kernel, as in ``qnoise run``

    from studies.console import print_json
    from studies.main_job import job_from_options
    from studies.results import found_or_wrote

    compared, folder, reused = _find_or_compute(job_from_options(schemes=schemes or SCHEMES, **options), out, started)
    summary = [summary_of(one) for one in compared]
    if as_json:
        print_json({"folder": str(folder), "reused": reused, "schemes": summary})
        return
    _print(summary)
    print(found_or_wrote(folder, reused))


def _find_or_compute(job: Job, out: Path, started: float) -> tuple[list[xr.Dataset], Path, bool]:
    """Comparisons, their folder, and whether it was there already."""
    from simulator.instrument.scheme import Scheme
    from simulator.models.loading import is_factory, load
    from simulator.provenance import run_key
    from simulator.threads import set_threads
    from studies.main_job import put_working_folder_on_path
    from studies.results import find_or_publish, folder_for, require_writable

    set_threads(job.threads)
    if is_factory(job.model):
        put_working_folder_on_path()
    model = load(job.model)
    (part,) = job.parts
    sampler = part.build(model, job.num_inference_steps)
    parsed = [Scheme.parse(text) for text in part.schemes]
    conditioning = job.conditions()
    config = {**job.config(model), "study": "predict-layers"}
    require_writable(out)
    folder = folder_for(out, model.name, run_key(config), "layers")
    if conditioning is not None:
        conditioning.of(model, range(1))

    def compute() -> dict[str, bytes]:
        return _files(_compare(job, model, sampler, parsed, conditioning), config, started)

    compared, reused = find_or_publish(folder, config, compute)
    return compared, folder, reused


def _compare(
    job: Job, model: Model, sampler: Sampler, parsed: list[Scheme], conditioning: Conditioning | None
) -> list[xr.Dataset]:
    """Predicted against measured, per scheme."""
    from noise_models.theory.layer_comparison import compare_layers
    from noise_models.theory.layers import predict_layers
    from simulator.attribution import attribute
    from simulator.calibration.trajectory import calibrate_ranges
    from simulator.instrument.quantized import QuantizedModel
    from simulator.instrument.rungs import Rung
    from simulator.operand_errors import observe_operands
    from studies.console import progress

    common: dict[str, Any] = {"seed": job.seed, "batch_size": min(job.batch_size, 64)}
    compared = []
    with progress() as report:

        def to(what: str) -> Any:
            return lambda done, total: report(what, done, total)

        ranges = calibrate_ranges(
            model, sampler, outputs=any(scheme.requantizes for scheme in parsed), samples=job.calibration_samples,
            conditioning=conditioning, progress=to("calibrating ranges"), **common,
        )  # fmt: skip
        for scheme in parsed:
            network = QuantizedModel(model, scheme, ranges, conditioning=conditioning)
            sized = {"samples": job.samples, **common}
            observed = observe_operands(network, sampler, progress=to(f"observing operands, {scheme}"), **sized)
            measured = attribute(
                network, sampler, rungs=(Rung.COMPLETE,), progress=to(f"measuring noise, {scheme}"), **sized
            )
            predicted = predict_layers(observed)
            found = compare_layers(predicted, measured)
            keys = {"observed_key": observed.attrs["key"], "measured_key": measured.attrs["key"]}
            compared.append(found.assign(noise_part=predicted["noise_part"]).assign_attrs(keys))
    return compared


def _files(compared: list[xr.Dataset], config: dict[str, Any], started: float) -> dict[str, bytes]:
    import matplotlib

    matplotlib.use("agg")
    from studies.plots.layer_prediction import layer_prediction_figure
    from studies.plots.style import figure_bytes
    from studies.results import complete
    from studies.store.files import dataset_bytes

    files = {f"{one.scheme.item()}.nc": dataset_bytes(one) for one in compared}
    runs, figure = list(files), layer_prediction_figure(compared)
    for suffix in ("pdf", "png"):
        files[f"layers.{suffix}"] = figure_bytes(figure, suffix)
    return complete(files, config, runs, started)


def summary_of(compared: xr.Dataset) -> dict[str, Any]:
    """One scheme's shares per predictor, and every site, as plain values; null where undefined."""
    from noise_models.theory.layer_comparison import CAUSES, VERDICTS, shares_within

    shares = shares_within(compared, (1.0, MISS_DB))
    uniform = compared.sel(predictor="uniform")

    def share(name: str, predictor: str, limit: float) -> float | None:
        return _number(shares[name].sel(predictor=predictor, limit_db=limit))

    return {
        "model": compared.model.item(),
        "scheme": compared.scheme.item(),
        "cells": int(shares["cells_defined"].sel(predictor="uniform")),
        "predictors": {
            predictor: {
                f"{name}_within_{limit:g}_db": share(name, predictor, limit)
                for name in ("sites", "cells")
                for limit in (1.0, MISS_DB)
            }
            | {"median_error_db": _number(compared["site_error_db"].sel(predictor=predictor).median())}
            for predictor in compared.predictor.values.tolist()
        },
        "sites": [
            {
                "site": site,
                "predicted_db": _number(uniform["site_predicted_sqnr_db"][index]),
                "measured_db": _number(compared["site_measured_sqnr_db"][index]),
                "measured_db_low": _number(compared["site_measured_sqnr_db_low"][index]),
                "measured_db_high": _number(compared["site_measured_sqnr_db_high"][index]),
                "error_db": _number(uniform["site_error_db"][index]),
                "cause": CAUSES[int(compared["site_cause"][index])],
                "verdict": VERDICTS[int(compared["site_verdict"][index])],
            }
            for index, site in enumerate(compared.site.values.tolist())
        ],
    }


def missed(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Sites of one scheme that are off by more than ``MISS_DB``."""
    return [row for row in summary["sites"] if row["error_db"] is not None and abs(row["error_db"]) > MISS_DB]


def share_rows(summaries: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of shares."""
    header = ["scheme", "prediction", "sites within 1 dB", "3 dB", "site-steps within 1 dB", "3 dB", "median error"]
    rows = []
    for summary in summaries:
        for predictor, found in summary["predictors"].items():
            *shares, median = found.values()
            cells = ["-" if value is None else f"{100 * value:.0f} %" for value in shares]
            rows.append([summary["scheme"].upper(), predictor, *cells, _db(median)])
    return header, rows


def miss_rows(summaries: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of misses."""
    header = ["scheme", "site", "predicted", "measured", "95 %", "error", "cause"]
    rows = [
        [
            summary["scheme"].upper(), row["site"], _db(row["predicted_db"]), _db(row["measured_db"]),
            f"{_db(row['measured_db_low'])} to {_db(row['measured_db_high'])}", _db(row["error_db"]),
            row["cause"].replace("_", " "),
        ]
        for summary in summaries
        for row in missed(summary)
    ]  # fmt: skip
    return header, rows


def _print(summaries: list[dict[str, Any]]) -> None:
    from studies.console import print_table

    by_site = zip(*(summary["sites"] for summary in summaries), strict=True)
    rows = [[cells[0]["site"], *(f"{_db(c['predicted_db'])} {_db(c['error_db'])}" for c in cells)] for cells in by_site]
    title = f"{summaries[0]['model']}: predicted SQNR in dB, and predicted minus measured"
    print_table(title, ["site", *(summary["scheme"] for summary in summaries)], rows)
    print_table("Shares of predictions", *share_rows(summaries))
    header, rows = miss_rows(summaries)
    if rows:
        print_table(f"Sites off by more than {MISS_DB:g} dB", header, rows)


def _number(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _db(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 1) + 0.0:.1f}"  # 0.0, not -0.0
