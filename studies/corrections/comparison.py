"""Corrections compared: all fitted on the same calibration samples, all evaluated on the same other samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from noise_models.absorption.absorbable import require_absorbing
from noise_models.absorption.account import account_absorption
from noise_models.absorption.rule import absorb
from noise_models.before_after.changes import injected_endpoint, paired_change
from noise_models.before_after.final_samples import final_distribution, final_distribution_change
from noise_models.before_after.step_variance import one_step_change, one_step_variance
from noise_models.correction.d2dpm import fit_d2dpm
from noise_models.correction.fitting import MIN_BLOCKS
from noise_models.correction.ptqd import PTQD
from noise_models.correction.ptqd_fit import fit_ptqd
from noise_models.correction.timestep_aware import fit_timestep_aware
from samplers.errors import BadInput
from samplers.sampler import Sampler
from simulator.calibration.trajectory import PURPOSE, calibrate_ranges
from simulator.correction import Correction
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.models.conditioning import Conditioning
from simulator.models.registry import Model
from simulator.paired import ACCUMULATED, INJECTED, Arm, run_arms
from simulator.single_step import one_step
from studies.corrections.names import NAMES

Report = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""

FITS: Mapping[str, Callable[[xr.Dataset], Correction]] = dict(
    zip(
        NAMES,
        (
            partial(fit_ptqd, absorb=False),
            fit_ptqd,
            partial(fit_ptqd, signed=True),
            partial(fit_ptqd, variant="released"),
            fit_d2dpm,
            partial(fit_d2dpm, sampled=True),
            fit_timestep_aware,
            partial(fit_timestep_aware, form="least_squares"),
            partial(fit_timestep_aware, form="moments"),
            partial(fit_timestep_aware, reconstruct=True),
        ),
        strict=True,
    )
)
"""How each is fitted on a calibration run."""


@dataclass(frozen=True)
class Comparison:
    """What a comparison ran.

    Args:
        calibration: the run that every correction was fitted on.
        runs: of held-out samples: without a correction, then with each.
        steps: of the same, one step from full precision's x_t.
        accounts: what steps were asked to absorb, absorbed and left, by the name of each correction that absorbs
            (:func:`noise_models.account_absorption`).
    """

    calibration: xr.Dataset
    runs: tuple[xr.Dataset, ...]
    steps: tuple[xr.Dataset, ...]
    accounts: Mapping[str, xr.Dataset]

    @property
    def changes(self) -> xr.Dataset:
        """Every endpoint of every correction, along ``correction``."""
        pairs = zip(self.runs[1:], self.steps[1:], strict=True)
        every = [changes(self.calibration, self.runs[0], run, self.steps[0], step) for run, step in pairs]
        return xr.concat(every, "correction", combine_attrs="drop_conflicts")


def compare_corrections(
    model: Model,
    scheme: Scheme | str,
    sampler: Sampler,
    corrections: Sequence[str],
    *,
    samples: int = 256,
    calibration_samples: int = 256,
    seed: int = 0,
    batch_size: int = 256,
    conditioning: Conditioning | None = None,
    report: Report = lambda *_: None,
) -> Comparison:
    """Fit corrections on calibration samples, and run them on held-out samples, all on shared noise.

    Args:
        model: the network.
        scheme: what is quantized, and how.
        sampler: the sampler.
        corrections: names among ``FITS``, each once.
        samples: held-out samples, of the stream "evaluate".
        calibration_samples: samples of the stream "calibrate", for ranges and for every fit.
        seed: of both streams.
        batch_size: samples per forward pass.
        conditioning: what samples are conditioned on.
        report: called after each step.

    Raises:
        BadInput: an unknown name or one twice, a correction that cannot absorb under this sampler, too few samples.
    """
    require_names(corrections, sampler)
    if calibration_samples < MIN_BLOCKS:
        raise BadInput(
            f"calibration samples must be at least {MIN_BLOCKS}, which fits need",
            got=calibration_samples,
            fix="use 256",
        )

    def progress(what: str) -> Callable[[int, int], None]:
        return lambda done, total: report(what, done, total)

    scheme = Scheme.parse(scheme) if isinstance(scheme, str) else scheme
    common: dict[str, Any] = {"seed": seed, "batch_size": batch_size}
    ranges = calibrate_ranges(
        model, sampler, samples=calibration_samples, outputs=scheme.requantizes, conditioning=conditioning,
        progress=progress("calibrating ranges"), **common,
    )  # fmt: skip
    network = QuantizedModel(model, scheme, ranges, conditioning=conditioning)
    drift = any(name.startswith("tac") for name in corrections)
    (calibration,) = run_arms(
        [Arm(network)], sampler, samples=calibration_samples, purpose=PURPOSE, sites=False,
        kinds=(INJECTED, ACCUMULATED) if drift else (INJECTED,), progress=progress("fitting corrections"), **common,
    )  # fmt: skip
    fits = [FITS[name](calibration) for name in corrections]
    arms = [Arm(network), *(Arm(network, fit) for fit in fits)]
    runs = run_arms(arms, sampler, samples=samples, sites=False, progress=progress("sampling"), **common)
    steps = one_step(arms, sampler, samples=samples, progress=progress("single steps"), **common)
    absorbing = [fit for fit in fits if isinstance(fit, PTQD) and fit.absorb]
    return Comparison(calibration, runs, steps, {fit.name: account_absorption(sampler, fit) for fit in absorbing})


def require_names(corrections: Sequence[str], sampler: Sampler) -> None:
    """Find before the work what would fail after it.

    Raises:
        BadInput: no name, an unknown one, one twice, or absorption that this sampler has no formula for.
    """
    unknown = [name for name in corrections if name not in FITS]
    if unknown or not corrections or len(set(corrections)) < len(corrections):
        raise BadInput(
            "corrections must be one or more different names", got=", ".join(corrections) or "none",
            fix=f"choose among {', '.join(FITS)}",
        )  # fmt: skip
    if any(name in ("ptqd", "ptqd-signed", "ptqd-released") for name in corrections):
        require_absorbing(dict(sampler.config()))
    if "ptqd-released" in corrections:
        for update in sampler.updates:
            absorb(update, 0.0, 0.0, "released")


def changes(
    calibration: xr.Dataset, before: xr.Dataset, after: xr.Dataset, step_before: xr.Dataset, step_after: xr.Dataset
) -> xr.Dataset:
    """Every endpoint of one correction: injected error, one-step variance, final samples and their distribution.

    Returns:
        Over (step,): ``injected_*`` and ``endpoint`` (:func:`noise_models.injected_endpoint`), ``variance_*``
        (:func:`noise_models.one_step_variance`, of both runs, and their change); of the final samples ``final_*``
        (:func:`noise_models.paired_change`), ``distribution_*`` (:func:`noise_models.final_distribution`, of both runs,
        and their change), and ``decoded_*`` of a latent model.
    """
    last = "state_accumulated"
    parts = [
        _prefixed("injected_", injected_endpoint(calibration, before, after), keep=("endpoint", "endpoint_either")),
        _prefixed("variance_before_", one_step_variance(step_before)),
        _prefixed("variance_after_", one_step_variance(step_after)),
        _prefixed("variance_", one_step_change(step_before, step_after)),
        _prefixed("final_", paired_change(before, after, last).isel(step=-1, drop=True)),
        _prefixed("distribution_before_", final_distribution(before)),
        _prefixed("distribution_after_", final_distribution(after)),
        _prefixed("distribution_", final_distribution_change(before, after)),
    ]
    if "decoded_accumulated" in after:
        parts.append(_prefixed("decoded_", paired_change(before, after, "decoded_accumulated")))
    merged = xr.merge(parts, compat="override", join="exact", combine_attrs="drop_conflicts")
    return merged.assign_coords(correction=after.correction)


def _prefixed(prefix: str, found: xr.Dataset, keep: tuple[str, ...] = ()) -> xr.Dataset:
    """Variables under longer names, with coordinates that belong to the step alone."""
    step = [name for name in found.coords if found[name].dims == ("step",)]
    names = {name: f"{prefix}{name}" for name in found.data_vars if name not in keep and name != "timestep"}
    return found.drop_vars([name for name in found.coords if name not in step]).rename(names)


def change_rows(found: xr.Dataset) -> list[dict[str, Any]]:
    """One row per correction of :attr:`Comparison.changes`: counts of verdicts over steps, and the final changes."""
    rows = []
    for name in found.correction.values:
        of = found.sel(correction=name)
        rows.append(
            {
                "correction": str(name),
                "injected_change_db": float(of.injected_mse_change_db.median()),
                "injected": _counts(of.injected_verdict),
                "endpoint": _counts(of.endpoint),
                "endpoint_either": _counts(of.endpoint_either),
                "variance": _counts(of.variance_verdict),
                "variance_excess_before": _largest(of, "before"),
                "variance_excess_after": _largest(of, "after"),
                "final_sqnr_change_db": float(of.final_sqnr_change_db),
                "final_sqnr_change_db_low": float(of.final_sqnr_change_db_low),
                "final_sqnr_change_db_high": float(of.final_sqnr_change_db_high),
                "variance_ratio_before": float(of.distribution_before_variance_ratio),
                "variance_ratio_after": float(of.distribution_after_variance_ratio),
                "wasserstein2_squared_before": float(of.distribution_before_wasserstein2_squared),
                "wasserstein2_squared_after": float(of.distribution_after_wasserstein2_squared),
                "distribution": next(iter(_counts(of.distribution_verdict))),
            }
        )
    return rows


def account_line(name: str, account: xr.Dataset) -> str:
    """What a correction could not absorb, in a sentence."""
    asked, remaining = account.requested_variance.to_numpy(), account.remaining_variance.to_numpy()
    steps = account.timestep.to_numpy()[remaining > 0]
    whole = f"{name}: {len(asked) - len(steps)} of {len(asked)} steps absorb all that they are asked to"
    if not len(steps):
        return whole
    share = f"{100 * remaining.sum() / asked.sum():.2g} % of the requested variance remains"
    return f"{whole}; {share}, at timesteps {', '.join(f'{t:g}' for t in steps)}"


def _counts(codes: xr.DataArray) -> dict[str, int]:
    """How often each flag occurs, those that do."""
    names = codes.attrs["flag_meanings"].split()
    values = np.atleast_1d(codes.to_numpy())
    return {name: int((values == code).sum()) for code, name in enumerate(names) if (values == code).any()}


def _largest(of: xr.Dataset, when: str) -> float:
    """Largest excess of the one-step variance over its reference, relative, with its sign."""
    share = (of[f"variance_{when}_variance_excess"] / of[f"variance_{when}_variance_reference"]).to_numpy()
    return float(share[np.nanargmax(np.abs(share))])
