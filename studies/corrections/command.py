"""``qnoise correct``: from options to a results folder with every correction's endpoints."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.corrections.names import DEFAULT_NAMES

if TYPE_CHECKING:
    from studies.corrections.comparison import Comparison
    from studies.execute import Plan

CHANGES_FILE = "changes.nc"
ACCOUNT = "absorption-"


def run_correct(*, scheme: str, corrections: tuple[str, ...], out: Path, as_json: bool, **options: Any) -> None:
    """Compare corrections, or find the comparison done; leave runs, changes and a figure, and print the table.

    Raises:
        BadInput: an option breaks its rule.
    """
    started = time.time()
    import torch  # noqa: F401 - before any kernel, as in ``qnoise run``

    from simulator.models.loading import is_factory, load
    from simulator.provenance import run_key
    from simulator.threads import set_threads
    from studies.console import print_json
    from studies.corrections.comparison import account_line, change_rows, require_names
    from studies.execute import plan
    from studies.main_job import job_from_options, put_working_folder_on_path
    from studies.results import find_or_publish, folder_for, found_or_wrote, require_writable
    from studies.store.files import read

    names = corrections or DEFAULT_NAMES
    job = job_from_options(schemes=(scheme,), **options)
    (part,) = job.parts
    set_threads(job.threads)
    if is_factory(job.model):
        put_working_folder_on_path()
    model = load(job.model)
    checked = plan(job, model)
    require_names(names, checked.samplers[part])
    config = {**job.config(model), "corrections": list(names)}
    require_writable(out)
    folder = folder_for(out, model.name, run_key(config), "correct")
    (changes, *_), reused = find_or_publish(folder, config, lambda: _files(_compare(checked, names), config, started))
    rows = change_rows(changes)
    accounts = [
        account_line(path.stem.removeprefix(ACCOUNT), read(path)) for path in sorted(folder.glob(f"{ACCOUNT}*.nc"))
    ]
    if as_json:
        print_json({"folder": str(folder), "reused": reused, "corrections": rows, "absorption": accounts})
        return
    _print(rows, f"{model.name}, {scheme}, {part.title}, {job.num_inference_steps} steps, {job.samples} samples")
    print(*accounts, sep="\n")
    print(found_or_wrote(folder, reused))


def _compare(checked: Plan, names: tuple[str, ...]) -> Comparison:
    from studies.console import progress
    from studies.corrections.comparison import compare_corrections

    job, (part,) = checked.job, checked.job.parts
    with progress() as report:
        return compare_corrections(
            checked.model, checked.schemes[part.schemes[0]], checked.samplers[part], names, samples=job.samples,
            calibration_samples=job.calibration_samples, seed=job.seed, batch_size=job.batch_size,
            conditioning=checked.conditioning, report=report,
        )  # fmt: skip


def _files(found: Comparison, config: dict[str, Any], started: float) -> dict[str, bytes]:
    import matplotlib

    matplotlib.use("agg")
    from studies.plots.corrections import corrections_figure
    from studies.plots.style import figure_bytes
    from studies.results import complete, run_file
    from studies.store.files import dataset_bytes

    changes = found.changes
    files = {run_file(run): dataset_bytes(run) for run in found.runs}
    files |= {f"one-step-{step.correction.item()}.nc": dataset_bytes(step) for step in found.steps}
    files |= {f"{ACCOUNT}{name}.nc": dataset_bytes(account) for name, account in found.accounts.items()}
    files |= {"calibration.nc": dataset_bytes(found.calibration), CHANGES_FILE: dataset_bytes(changes)}
    figure = corrections_figure(changes)
    files |= {f"corrections.{suffix}": figure_bytes(figure, suffix) for suffix in ("pdf", "png")}
    return complete(files, config, [CHANGES_FILE], started)


def _print(rows: list[dict[str, Any]], title: str) -> None:
    from studies.console import print_table

    header = [
        "correction", "injected", "falls/rises/?", "endpoint", "closer/farther/?", "one-step var.", "x0 SQNR", "95 %",
        "x0 variance", "W2^2 x 1e3", "distribution",
    ]  # fmt: skip
    cells = [
        [
            row["correction"],
            f"{row['injected_change_db']:+.2f}",
            _three(row["injected"], "falls", "rises"),
            f"{_met(row['endpoint'])} ({_met(row['endpoint_either'])})",
            _three(row["variance"], "closer", "farther"),
            f"{100 * row['variance_excess_before']:+.2f} > {100 * row['variance_excess_after']:+.2f} %",
            f"{row['final_sqnr_change_db']:+.2f}",
            f"{row['final_sqnr_change_db_low']:+.2f}..{row['final_sqnr_change_db_high']:+.2f}",
            f"{row['variance_ratio_before']:.4f} > {row['variance_ratio_after']:.4f}",
            f"{1e3 * row['wasserstein2_squared_before']:.3f} > {1e3 * row['wasserstein2_squared_after']:.3f}",
            row["distribution"],
        ]
        for row in rows
    ]
    print_table(f"Corrections: {title}", header, cells)
    print(_LEGEND)


def _three(counts: dict[str, int], first: str, second: str) -> str:
    return f"{counts.get(first, 0)}/{counts.get(second, 0)}/{counts.get('inconclusive', 0)}"


def _met(counts: dict[str, int]) -> str:
    asked = sum(counts.values()) - counts.get("not_expected", 0)
    return f"{counts.get('met', 0)}/{asked}" if asked else "-"


_LEGEND = """\
injected: squared error of epsilon on held-out samples, change in dB, median over steps; then the steps where it falls,
rises, or its interval says neither. endpoint: steps where it falls, of those where the fit's slope and bias (either of
them) differ from 0. one-step variance of x_{t-1}: steps where it comes closer to the noise-free sampler's, and its
largest excess, before > after. x0 SQNR: paired change in dB. x0 variance: over full precision's. W2^2: squared Gaussian
distance per element of the final samples to full precision's, with the verdict on its change."""
