"""Single numbers of a run, by name: what tables and Pareto fronts are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import xarray as xr

from noise_models.metrics import sqnr_db
from samplers.errors import BadInput
from studies.sources.run import Run
from studies.tables import median_over_samples_db


@dataclass(frozen=True)
class Number:
    """A number that every run has, or some.

    Args:
        title: with its unit, for headings.
        of: makes it from a run's dataset.
        needs: the variable that it is made from.
        lacking: how runs come to have that.
        scale: it is multiplied by this where ``title`` stands.
        digits: after the decimal point.
    """

    title: str
    of: Callable[[xr.Dataset], float]
    needs: str
    lacking: str = "make the run with its accumulated noise"
    scale: float = 1.0
    digits: int = 2


def _final(run: xr.Dataset) -> float:
    return float(sqnr_db(run, "state_accumulated").sqnr_db[-1])


def _mean(variable: str) -> Callable[[xr.Dataset], float]:
    return lambda run: float(sqnr_db(run, variable).sqnr_db.mean())


_STUDY = "run it as a study, which counts costs"

NUMBERS: dict[str, Number] = {
    "final_sqnr_db": Number("final SQNR, dB", _final, "state_accumulated"),
    "final_median_db": Number(
        "final SQNR, median over samples, dB",
        lambda run: median_over_samples_db(run["state_sample_accumulated"].isel(step=-1)), "state_sample_accumulated",
    ),
    "injected_sqnr_db": Number("injected SQNR, mean over steps, dB", _mean("epsilon_injected"),
                               "epsilon_injected"),
    "accumulated_sqnr_db": Number("accumulated SQNR, mean over steps, dB", _mean("epsilon_accumulated"),
                                  "epsilon_accumulated"),
    "decoded_sqnr_db": Number(
        "decoded SQNR, dB", lambda run: float(sqnr_db(run, "decoded_accumulated").sqnr_db),
        "decoded_accumulated", "run a latent model",
    ),
    "bops": Number("bit operations per sample, 10⁹", lambda run: float(run["bops"]), "bops", _STUDY, 1e-9),
    "weight_bytes": Number("weights, kB", lambda run: float(run["weight_bytes"]), "weight_bytes", _STUDY, 1e-3, 1),
}  # fmt: skip


def find_number(name: str) -> Number:
    """A number by its name.

    Raises:
        BadInput: there is none.
    """
    if name not in NUMBERS:
        raise BadInput(f"a value must be one of {', '.join(NUMBERS)}", got=repr(name), fix="choose one")
    return NUMBERS[name]


@lru_cache(maxsize=4096)
def numbers_of(run: Run) -> Mapping[str, float]:
    """All numbers of a run, its file read once; NaN where it does not have what one is made from."""
    found = run.dataset()
    return {name: number.of(found) if number.needs in found else math.nan for name, number in NUMBERS.items()}
