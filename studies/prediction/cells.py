"""Predicted against measured noise of final samples, over a grid of samplers, steps and schemes.

A cell is one sampler with one number of steps; all schemes share its full-precision trajectory. Noise streams are
disjoint: ranges are fitted on "calibrate", predictions made on "predict", noise measured on "evaluate". Samples are
added until a scheme's measured SQNR is as certain as asked for, or there are as many as allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from noise_models.inference.intervals import Interval, from_replicates
from noise_models.inference.labelled import interval_variables
from noise_models.inference.pooling import Array, sum_without_each
from noise_models.metrics import sqnr_db
from noise_models.propagation.prediction import Predictor, predict_noise
from noise_models.propagation.transfer import naive_final_power
from samplers.errors import BadInput
from samplers.validation import require_int, require_real
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.moments import BLOCKS
from simulator.paired import ACCUMULATED, Arm, run_arms

if TYPE_CHECKING:
    from samplers.sampler import Sampler
    from simulator.models.conditioning import Conditioning
    from simulator.models.registry import Model

PREDICTORS = (
    Predictor(),
    Predictor(injection="recorded"),
    Predictor("tangent", "recorded"),
    Predictor(injection="white"),
)
"""The first is the prediction; the others say what each of its parts is worth."""

NAIVE = ("last-step", "sum")
"""Injected power of the last step alone, and the sum over steps with the coefficients but without the Jacobian."""

CHUNK = 1024
"""Samples that are added at a time."""

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Effort:
    """How much is sampled.

    Args:
        standard_error: of a measured SQNR, in dB, at which its scheme needs no more samples.
        most_samples: where to stop in any case.
        prediction_samples: trajectories that the prediction is made on.
        other_samples: the same for the other predictors.
        calibration_samples: samples that ranges are fitted on.
        batch_size: samples per forward pass.
        seed: of all streams.

    Raises:
        BadInput: a number breaks its rule.
    """

    standard_error: float = 0.1
    most_samples: int = 16384
    prediction_samples: int = 1024
    other_samples: int = 256
    calibration_samples: int = 2048
    batch_size: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("most_samples", "prediction_samples", "other_samples"):
            require_int(name, getattr(self, name), BLOCKS)
        for name in ("calibration_samples", "batch_size"):
            require_int(name, getattr(self, name), 3)
        require_int("seed", self.seed, 0)
        if require_real("standard_error", self.standard_error) <= 0:
            raise BadInput("standard_error must be above 0", got=self.standard_error, fix="0.1 dB is usual")


def predict_cell(
    model: Model, sampler: Sampler, schemes: Sequence[Scheme], effort: Effort, report: Report = lambda *_: None, *,
    name: str | None = None, conditioning: Conditioning | None = None,
) -> xr.Dataset:  # fmt: skip
    """Predicted and measured SQNR of the final sample of one sampler, per scheme; ``name`` is the sampler's.

    Returns:
        ``measured_sqnr_db`` (scheme) and ``predicted_sqnr_db`` (predictor, scheme), each with standard error and ends;
        naive predictors have none. ``measured_samples`` says how many samples each scheme took.
    """

    def progress(what: str) -> Callable[[int, int], None]:
        return lambda done, total: report(what, done, total)

    common: dict[str, Any] = {"seed": effort.seed, "batch_size": effort.batch_size}
    ranges = calibrate_ranges(
        model, sampler, samples=effort.calibration_samples, outputs=any(scheme.requantizes for scheme in schemes),
        conditioning=conditioning, progress=progress("calibrating ranges"), **common,
    )  # fmt: skip
    networks = [QuantizedModel(model, scheme, ranges, conditioning=conditioning) for scheme in schemes]
    predicted: list[xr.Dataset] = []
    for index, predictor in enumerate(PREDICTORS):
        samples = effort.other_samples if index else effort.prediction_samples
        made = predict_noise(
            networks, sampler, predictor, samples=samples, progress=progress(f"predicting, {predictor.name}"), **common
        )
        if not index:
            naive = np.array([[_naive_db(sampler, one, kind) for one in made] for kind in NAIVE])
        found = [sqnr_db(one, "state_predicted").isel(step=-1, drop=True) for one in made]
        predicted.append(xr.concat([one.drop_vars([*one.coords]) for one in found], "scheme", combine_attrs="drop"))
    measured, counts = _measure(networks, sampler, effort, progress("measuring"))
    names = [str(scheme) for scheme in schemes]
    rows = [predictor.name for predictor in PREDICTORS]
    parts = {
        "": np.concatenate([[one.sqnr_db.values for one in predicted], naive]),
        **{
            f"_{part}": np.concatenate(
                [[one[f"sqnr_db_{part}"].values for one in predicted], np.full_like(naive, np.nan)]
            )
            for part in ("standard_error", "low", "high")
        },
    }
    what = "10 log10(sum y^2 / sum e^2) of the final sample, pooled"
    data: dict[str, Any] = {
        f"predicted_sqnr_db{part}": (
            ("predictor", "scheme"), values, {"units": "dB", "long_name": "predicted SQNR", "definition": what},
        )
        for part, values in parts.items()
    }  # fmt: skip
    data |= interval_variables(
        "measured_sqnr_db", measured, ("scheme",), unit="dB", long_name="measured SQNR", definition=what,
        confidence=0.95, scale="dB",
    )  # fmt: skip
    data["measured_samples"] = (("scheme",), counts, {"units": "1", "long_name": "samples behind the measured SQNR"})
    coords = {
        "scheme": names, "predictor": [*rows, *NAIVE], "model": f"{model.name}@{model.version}",
        "sampler": name or label(sampler), "steps": sampler.config()["num_inference_steps"],
    }  # fmt: skip
    return xr.Dataset(data, coords)


def label(sampler: Sampler) -> str:
    """Short name of a sampler with what tells it apart."""
    config = sampler.config()
    if sampler.name == "ddim":
        return f"ddim:{config['eta']:g}"
    return f"{sampler.name}:{config['variance_type']}" if "variance_type" in config else sampler.name


def _naive_db(sampler: Sampler, predicted: xr.Dataset, kind: str) -> float:
    """A naive predictor's SQNR: injected powers of epsilon, pooled over channels, through the coefficients alone."""

    def power(moments: xr.DataArray, mean: str, square: str) -> Array:
        values = moments.sel(moment=square) + moments.sel(moment=mean) ** 2
        return np.asarray(values.weighted(predicted.epsilon_count).mean(("channel", "block")).values)

    injected = power(predicted.epsilon_injected, "mean_e", "ee")
    signal = power(predicted.state_predicted.isel(step=-1), "mean_y", "yy")
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(signal / naive_final_power(sampler, injected, kind)))


def _measure(
    networks: Sequence[QuantizedModel], sampler: Sampler, effort: Effort, progress: Callable[[int, int], None]
) -> tuple[Interval, np.ndarray]:
    """Measured SQNR of every network, in chunks with seeds of their own."""
    powers: list[list[np.ndarray]] = [[] for _ in networks]
    while open_ := [i for i, have in enumerate(powers) if _wants_more(have, effort)]:
        seed = effort.seed + len(powers[open_[0]])
        runs = run_arms(
            [Arm(networks[i]) for i in open_], sampler, samples=min(CHUNK, effort.most_samples), seed=seed,
            batch_size=effort.batch_size, kinds=(ACCUMULATED,), sites=False, progress=progress,
        )  # fmt: skip
        for i, run in zip(open_, runs, strict=True):
            powers[i].append(_final_powers(run))
    found = [_ratio_db(np.concatenate(have, 1)) for have in powers]
    joined = Interval(*(np.array([getattr(one, name) for one in found]) for name in Interval._fields))
    return joined, np.array([sum(part.shape[1] for part in have) for have in powers])


def _wants_more(have: list[np.ndarray], effort: Effort) -> bool:
    if not have:
        return True
    every = np.concatenate(have, 1)
    error = float(_ratio_db(every).standard_error)
    return error > effort.standard_error and every.shape[1] < effort.most_samples


def _final_powers(run: xr.Dataset) -> np.ndarray:
    """(2, sample): mean square of the reference and of its error, over the elements of each final sample."""
    moments = run.state_sample_accumulated.isel(step=-1)
    parts = [
        (moments.sel(moment=square) + moments.sel(moment=mean) ** 2).mean("channel").values
        for mean, square in (("mean_y", "yy"), ("mean_e", "ee"))
    ]
    return np.stack(parts)


def _ratio_db(powers: np.ndarray) -> Interval:
    """Pooled SQNR with its block jackknife, from (2, sample)."""
    block = np.arange(powers.shape[1]) % BLOCKS
    sums = np.zeros((BLOCKS, 2))
    np.add.at(sums, block, powers.T)

    def db(pair: Array) -> Array:
        with np.errstate(divide="ignore"):
            return np.asarray(10 * np.log10(pair[..., 0] / pair[..., 1]))

    sizes = np.bincount(block)
    return from_replicates(db(sums.sum(0)), db(sum_without_each(sums)), sizes / sizes.sum())
