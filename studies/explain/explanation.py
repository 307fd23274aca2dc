"""Everything that one run's record says of its noise, as one dataset."""

from __future__ import annotations

import xarray as xr
from numpy.typing import ArrayLike

from noise_models.assumptions.table import check_assumptions
from noise_models.decomposition.drift import measure_drift
from noise_models.decomposition.held_out import evaluate_held_out
from noise_models.decomposition.observable import decompose_observable
from noise_models.decomposition.predictors import PREDICTORS
from noise_models.decomposition.ptqd_parameters import estimate_ptqd
from noise_models.decomposition.split import decompose
from noise_models.metrics import sqnr_db
from samplers.errors import BadInput


def explain_run(
    run: xr.Dataset, *, fit: xr.Dataset | None = None, plain: xr.Dataset | None = None,
    groups: ArrayLike | None = None, method: str = "jackknife",
) -> xr.Dataset:  # fmt: skip
    """All analyses that a run allows, each under a prefix of its own: ``decomposition_slope``, ``sites_slope``, ...

    - ``sqnr_``, ``decomposition_``, ``channels_`` (several channels), ``sites_`` (recorded sites), ``observable_`` and
      ``trimmed_`` (D2-DPM, outliers kept and removed), ``ptqd_`` and ``ptqd_released_`` (without a correction),
      ``assumptions_``: of injected noise;
    - ``drift_``: accumulated against injected; ``correction_``: a corrected run's accumulated noise against that of
      ``plain``;
    - ``held_out_``: along ``predictor``, fitted on ``fit``.

    Args:
        run: one run's dataset, with injected noise.
        fit: calibration run of the same system, for what is judged on held-out samples.
        plain: the same run without its correction.
        groups: class of every sample, whose noise power is compared; None compares no classes.
        method: of intervals of decompositions.

    Raises:
        BadInput: the run has no injected noise, or the runs do not belong together.
    """
    if "epsilon_injected" not in run:
        raise BadInput(
            "a run is explained by its injected noise",
            got=f"variables {', '.join(map(str, run))}"[:200],
            fix='record kinds=("injected", "accumulated")',
        )
    corrected = run.correction.item() != "none"
    parts = {
        "sqnr": sqnr_db(run),
        "decomposition": decompose(run, method=method),
        "observable": decompose_observable(run, method=method),
        "assumptions": check_assumptions(run, groups=groups),
    }
    if run.sizes["channel"] > 1:
        parts["channels"] = decompose(run, by="channel", method=method)
    if "site_injected" in run:
        parts["sites"] = decompose(run, "site_injected")
    if run.sizes.get("kept", 0) > 1:
        parts["trimmed"] = decompose_observable(run, outliers="removed")
    if not corrected:
        parts |= {"ptqd": estimate_ptqd(run), "ptqd_released": estimate_ptqd(run, "released")}
    if "epsilon_accumulated" in run:
        parts["drift"] = measure_drift(run, method=method)
        if corrected and plain is not None:
            parts["correction"] = measure_drift(run, base=plain, base_variable="epsilon_accumulated", method=method)
    if fit is not None and not corrected:
        judged = [evaluate_held_out(fit, run, name, method=method) for name in PREDICTORS]
        parts["held_out"] = xr.concat(judged, "predictor", join="exact", coords="minimal", compat="override",
                                      combine_attrs="override")  # fmt: skip
    renamed = [
        part.rename({name: f"{prefix}_{name}" for name in part.data_vars}).reset_coords(drop=True)
        for prefix, part in parts.items()
    ]
    merged = xr.merge([run.coords.to_dataset().drop_dims("moment", errors="ignore"), *renamed],
                      combine_attrs="drop_conflicts", compat="no_conflicts")  # fmt: skip
    merged["timestep"] = run["timestep"]
    return merged.assign_attrs(key=run.attrs["key"], config=run.attrs["config"])


def has(explained: xr.Dataset, prefix: str) -> bool:
    """Whether an analysis is in the dataset."""
    return any(str(name).startswith(f"{prefix}_") for name in explained)
