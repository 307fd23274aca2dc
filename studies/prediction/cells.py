"""Predicted against measured noise of final samples, over a grid of samplers, steps and schemes.

A cell is one sampler with one number of steps; all schemes share its full-precision trajectory. Noise streams are
disjoint: ranges are fitted on "calibrate", predictions made on "predict", noise measured on "evaluate". Samples are
added until a scheme's SQNR is as certain as asked for, or there are as many as allowed; a cell that was made with less
effort is gone on with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from noise_models.inference.pooling import Array
from noise_models.propagation.prediction import Predictor, predict_noise
from noise_models.propagation.transfer import naive_final_power
from samplers.errors import BadInput
from samplers.validation import require_int, require_real
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.moments import BLOCKS
from simulator.paired import ACCUMULATED, Arm, run_arms
from studies.prediction.certainty import CHUNK, NONE, Powers, final_powers, until_certain
from studies.prediction.summary import DEFINITION, TERMS, padded, powers_of

if TYPE_CHECKING:
    from samplers.sampler import Sampler
    from simulator.models.conditioning import Conditioning
    from simulator.models.registry import Model

PREDICTORS = (
    Predictor(),
    Predictor(injection="displaced"),
    Predictor(injection="recorded"),
    Predictor("tangent", "recorded"),
    Predictor(injection="white"),
)
"""The first is the prediction; the others say what each of its parts is worth."""

PREDICTED, MEASURED = "state_sample_predicted", "state_sample_accumulated"

NAIVE = ("last-step", "sum")
"""Injected power of the last step alone, and the sum over steps with the coefficients but without the Jacobian."""

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Effort:
    """How much is sampled.

    Args:
        standard_error: of a measured SQNR, in dB, at which its scheme needs no more samples.
        most_samples: where to stop in any case.
        prediction_standard_error: the same of a prediction, which costs more.
        most_prediction_samples: where to stop in any case.
        other_samples: trajectories that the other predictors are made on, at most those of the first chunk.
        calibration_samples: samples that ranges are fitted on.
        batch_size: samples per forward pass.
        seed: of all streams.

    Raises:
        BadInput: a number breaks its rule.
    """

    standard_error: float = 0.1
    most_samples: int = 8192
    prediction_standard_error: float = 0.25
    most_prediction_samples: int = 4096
    other_samples: int = 128
    calibration_samples: int = 8192
    batch_size: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("most_samples", "most_prediction_samples", "other_samples"):
            require_int(name, getattr(self, name), BLOCKS)
        for name in ("calibration_samples", "batch_size"):
            require_int(name, getattr(self, name), 3)
        require_int("seed", self.seed, 0)
        for name in ("standard_error", "prediction_standard_error"):
            if require_real(name, getattr(self, name)) <= 0:
                raise BadInput(f"{name} must be above 0", got=getattr(self, name), fix="0.1 dB is usual")
        if self.other_samples > min(CHUNK, self.most_prediction_samples):
            raise BadInput(
                f"other_samples must be at most {min(CHUNK, self.most_prediction_samples)}, those of the first chunk",
                got=self.other_samples,
                fix="lower other_samples",
            )


def predict_cell(
    model: Model, sampler: Sampler, schemes: Sequence[Scheme], effort: Effort, report: Report = lambda *_: None, *,
    name: str | None = None, conditioning: Conditioning | None = None, have: xr.Dataset | None = None,
) -> xr.Dataset:  # fmt: skip
    """Predicted and measured noise of the final sample of one sampler, per scheme.

    Args:
        model: in full precision.
        sampler: any with linear updates.
        schemes: all measured on the same trajectories.
        effort: how much is sampled.
        report: called with (what, done, total).
        name: the sampler's.
        conditioning: of the model.
        have: the same cell with less effort, to which samples are added; itself returned where it suffices.

    Returns:
        ``measured_power`` (scheme, term, measured_sample) and ``predicted_power`` (predictor, scheme, term,
        predicted_sample), NaN where a scheme or predictor took fewer samples, and ``naive_sqnr_db`` (naive, scheme).
        ``summarise`` makes SQNR of them.
    """
    sampling = _Sampling(model, sampler, schemes, effort, report, conditioning)
    rows = range(len(schemes))
    measured = until_certain(
        [NONE for _ in rows] if have is None else [powers_of(have.measured_power[i]) for i in rows],
        sampling.measurement, standard_error=effort.standard_error, most_samples=effort.most_samples,
    )  # fmt: skip
    predicted = until_certain(
        [NONE for _ in rows] if have is None else [powers_of(have.predicted_power[0, i]) for i in rows],
        sampling.prediction, standard_error=effort.prediction_standard_error,
        most_samples=effort.most_prediction_samples,
    )  # fmt: skip
    if have is not None and not sampling.networks:
        return have
    if have is None:
        few = [_powers(sampling.predict(rows, one, effort.other_samples, 0), PREDICTED) for one in PREDICTORS[1:]]
        naive = np.array([[_naive_db(sampler, one, kind) for one in sampling.first_chunk] for kind in NAIVE])
    else:
        few = [[powers_of(have.predicted_power[row, i]) for i in rows] for row in range(1, len(PREDICTORS))]
        naive = have.naive_sqnr_db.values
    every = padded([powers for row in (predicted, *few) for powers in row])
    what = "mean square over the elements of each final sample"
    data = {
        "measured_power": (
            ("scheme", "term", "measured_sample"), padded(measured),
            {"units": "1", "long_name": "power of the final sample and of its error, measured", "definition": what},
        ),
        "predicted_power": (
            ("predictor", "scheme", "term", "predicted_sample"),
            every.reshape(len(PREDICTORS), len(schemes), *every.shape[1:]),
            {"units": "1", "long_name": "power of the final sample and of its error, predicted", "definition": what},
        ),
        "naive_sqnr_db": (
            ("naive", "scheme"), naive, {"units": "dB", "long_name": "predicted SQNR", "definition": DEFINITION},
        ),
    }  # fmt: skip
    coords = {
        "scheme": [str(scheme) for scheme in schemes], "predictor": [one.name for one in PREDICTORS],
        "naive": list(NAIVE), "term": list(TERMS), "model": f"{model.name}@{model.version}",
        "sampler": name or label(sampler), "steps": sampler.config()["num_inference_steps"],
    }  # fmt: skip
    return xr.Dataset(data, coords)


class _Sampling:
    """Draws a cell's samples; its networks are made when they are first needed."""

    def __init__(
        self, model: Model, sampler: Sampler, schemes: Sequence[Scheme], effort: Effort, report: Report,
        conditioning: Conditioning | None,
    ) -> None:  # fmt: skip
        self._model, self._sampler, self._schemes, self._conditioning = model, sampler, schemes, conditioning
        self._effort, self._report = effort, report
        self.networks: list[QuantizedModel] = []
        self.first_chunk: list[xr.Dataset] = []
        """What the first predictor made of its first chunk, per scheme."""

    def predict(self, of: Sequence[int], predictor: Predictor, samples: int, chunk: int) -> tuple[xr.Dataset, ...]:
        """A prediction for the schemes ``of``."""
        return predict_noise(
            self._networks(of), self._sampler, predictor, samples=samples, seed=self._effort.seed + chunk,
            batch_size=self._effort.batch_size, progress=self._progress(f"predicting, {predictor.name}"),
        )  # fmt: skip

    def prediction(self, of: Sequence[int], samples: int, chunk: int) -> list[Powers]:
        """The first predictor's powers."""
        made = self.predict(of, PREDICTORS[0], samples, chunk)
        self.first_chunk.extend(made if not chunk else ())
        return _powers(made, PREDICTED)

    def measurement(self, of: Sequence[int], samples: int, chunk: int) -> list[Powers]:
        """Powers of quantized runs."""
        runs = run_arms(
            [Arm(one) for one in self._networks(of)], self._sampler, samples=samples, seed=self._effort.seed + chunk,
            batch_size=self._effort.batch_size, kinds=(ACCUMULATED,), sites=False,
            progress=self._progress("measuring"),
        )  # fmt: skip
        return _powers(runs, MEASURED)

    def _networks(self, of: Sequence[int]) -> list[QuantizedModel]:
        if not self.networks:
            ranges = calibrate_ranges(
                self._model, self._sampler, samples=self._effort.calibration_samples, seed=self._effort.seed,
                conditioning=self._conditioning, outputs=any(scheme.requantizes for scheme in self._schemes),
                batch_size=self._effort.batch_size, progress=self._progress("calibrating ranges"),
            )  # fmt: skip
            self.networks = [
                QuantizedModel(self._model, scheme, ranges, conditioning=self._conditioning) for scheme in self._schemes
            ]
        return [self.networks[i] for i in of]

    def _progress(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self._report(what, done, total)


def _powers(datasets: Sequence[xr.Dataset], variable: str) -> list[Powers]:
    return [final_powers(dataset, variable) for dataset in datasets]


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
