"""``qnoise feasibility``: what residual noise each step can absorb, as a table, a dataset and a figure."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplers.errors import BadInput

if TYPE_CHECKING:
    import xarray as xr

MAP = "feasibility.nc"
DEFAULT_ETAS = (0.2, 0.5, 1.0)
DEFAULT_STEPS = (10, 20, 50, 100, 250)


def run_feasibility(
    *, model: str, beta_schedule: str | None, beta_start: float, beta_end: float, etas: tuple[float, ...],
    steps: tuple[int, ...], steps_offset: int, set_alpha_to_one: bool, measured: Path | None, out: Path, as_json: bool,
) -> None:  # fmt: skip
    """Leave ``feasibility.nc``, ``.pdf`` and ``.png`` in a results folder, and print a row per eta and number of steps.

    Raises:
        BadInput: an option breaks its rule, no eta above 0, or a measured run that is none.
    """
    import matplotlib

    matplotlib.use("agg")
    from noise_models.absorption.absorbable import feasibility_map
    from samplers.schedule import NoiseSchedule, require_schedule
    from simulator.provenance import run_key
    from studies.console import print_json
    from studies.plots.feasibility import feasibility_figure
    from studies.plots.style import figure_bytes
    from studies.results import complete, find_or_publish, folder_for, found_or_wrote, require_writable
    from studies.store.files import dataset_bytes

    if beta_schedule is None:
        from simulator.models.loading import is_factory, load
        from studies.main_job import put_working_folder_on_path

        if is_factory(model):
            put_working_folder_on_path()
        loaded = load(model)
        schedule, name = require_schedule(loaded.schedule), loaded.name
    else:
        schedule, name = NoiseSchedule(beta_schedule, 1000, beta_start, beta_end), beta_schedule
    etas = etas or DEFAULT_ETAS
    if not any(eta > 0 for eta in etas):
        raise BadInput("a map needs an eta above 0", got=etas, fix="0 adds no noise that could stand in")
    run = None if measured is None else _measured(measured)
    bounds = feasibility_map(
        schedule, etas, steps or DEFAULT_STEPS, steps_offset=steps_offset, set_alpha_to_one=set_alpha_to_one
    )
    require_writable(out)
    content = dataset_bytes(bounds)
    config = {
        "schedule": schedule.config(), "bounds": hashlib.sha256(content).hexdigest(),
        "measured": None if run is None else run.attrs["key"],
    }  # fmt: skip
    folder = folder_for(out, name, run_key(config), "feasibility")

    def files() -> dict[str, bytes]:
        figure = feasibility_figure(bounds, run)
        drawn = {f"feasibility.{suffix}": figure_bytes(figure, suffix) for suffix in ("pdf", "png")}
        return complete({MAP: content, **drawn}, config, [MAP])

    _, reused = find_or_publish(folder, config, files)
    rows = feasibility_rows(bounds, run)
    if as_json:
        print_json({"folder": str(folder), "reused": reused, "schedule": name, "rows": rows})
        return
    _print(rows, name)
    print(found_or_wrote(folder, reused))


def feasibility_rows(bounds: xr.Dataset, run: xr.Dataset | None = None) -> list[dict[str, Any]]:
    """For each eta and number of steps: the smallest bound above 0 and where it is, and steps that absorb nothing.

    With a run, of as many steps as its own: how many of the map's steps absorb the residual noise measured there.
    """
    rows = []
    for eta in bounds.eta.values:
        for steps in bounds.steps.values:
            bound = bounds.absorbable_variance.sel(eta=eta, steps=steps).dropna("timestep")
            some = bound[bound.to_numpy() > 0]
            low = some.idxmin("timestep") if some.size else None
            row: dict[str, Any] = {
                "eta": float(eta),
                "steps": int(steps),
                "smallest": float(some.min()) if some.size else 0.0,
                "smallest_at": None if low is None else float(low),
                "median": float(bound.median()),
                "without_noise": int((bound == 0).sum()),
            }
            if run is not None:
                row["absorbed"] = _absorbed(bound, run)
            rows.append(row)
    return rows


def _absorbed(bound: xr.DataArray, run: xr.Dataset) -> int | None:
    """Steps that absorb a run's residual noise whole; None where its timesteps are others."""
    import numpy as np

    from noise_models.decomposition.split import decompose

    if bound.size != run.sizes["step"] or not np.array_equal(bound.timestep, run.timestep):
        return None
    found = decompose(run, "epsilon_injected")
    reduced = found.residual_variance / (1 + np.maximum(found.slope, 0)) ** 2
    return int((reduced.to_numpy() <= bound.to_numpy()).sum())


def _measured(path: Path) -> xr.Dataset:
    from studies.store.files import read

    if not path.is_file():
        raise BadInput("the measured run must be a file", got=str(path), fix="name one that qnoise run wrote")
    run = read(path)
    if "epsilon_injected" not in run or str(run.correction.values) != "none":
        raise BadInput(
            "the measured run must hold injected noise without a correction", got=str(path), fix="name such a file"
        )
    return run


def _print(rows: list[dict[str, Any]], name: str) -> None:
    from studies.console import print_table

    measured = "absorbed" in rows[0]
    header = ["eta", "steps", "smallest bound", "at t", "median", "no fresh noise", *(["absorbed"] if measured else [])]
    cells = [
        [
            f"{row['eta']:g}",
            str(row["steps"]),
            f"{row['smallest']:.3g}",
            "-" if row["smallest_at"] is None else f"{row['smallest_at']:g}",
            f"{row['median']:.3g}",
            str(row["without_noise"]),
            *([_share(row)] if measured else []),
        ]
        for row in rows
    ]
    print_table(f"Absorbable residual variance of epsilon at k = 0, DDIM on the schedule of {name}", header, cells)


def _share(row: dict[str, Any]) -> str:
    return "-" if row["absorbed"] is None else f"{row['absorbed']}/{row['steps']}"
