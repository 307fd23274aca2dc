"""From sets of images to one dataset of distances: floors, schemes, and schemes minus full precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from noise_models.inference.intervals import Interval
from samplers.errors import BadInput
from studies.quality.comparison import FeatureSet, mean_frechet_in_parts, parts_of
from studies.quality.extrapolation import FrechetCurve, frechet_curve
from studies.quality.feature_sets import FeatureExtractor, Features, features_of
from studies.quality.kid import LEAST as KID_LEAST
from studies.quality.kid import KernelDistance, kernel_distance, kernel_distance_difference
from studies.quality.manifolds import NEIGHBOURS, precision_recall
from studies.quality.posteriors import GROUPS, inception_score, inception_score_ratio
from studies.quality.reasons import Reason
from studies.quality.shuffling import Role
from studies.quality.variables import empty_dataset, put_interval

FULL_PRECISION, HELD_OUT, REAL = "full_precision", "held_out", "real"

Images = NDArray[np.float32]
Report = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class ImageSets:
    """The images of one study, each (n, c, h, w) on [-1, 1].

    Args:
        generated: by name; ``full_precision`` among them, the others drawn on the same noise, as many of each.
        repeat: full precision on other noise, as many.
        real: images of the data, None without any.
        held_out: other images of the data, for the floor of ``real``; None without any.
    """

    generated: Mapping[str, Images]
    repeat: Images
    real: Images | None = None
    held_out: Images | None = None

    def __post_init__(self) -> None:
        if FULL_PRECISION not in self.generated or {HELD_OUT, REAL} & set(self.generated):
            raise BadInput(
                f"generated sets must have {FULL_PRECISION} among them, and neither {HELD_OUT} nor {REAL}",
                got=", ".join(self.generated),
                fix="name each scheme by itself",
            )
        sizes = {name: len(images) for name, images in (*self.generated.items(), ("repeat", self.repeat))}
        if len(set(sizes.values())) != 1:
            raise BadInput("generated sets must be of one size", got=sizes, fix="draw as many of each")
        if self.held_out is not None and self.real is None:
            raise BadInput("held-out images need real ones to be compared with", got="none", fix="pass both")


def measure(
    sets: ImageSets,
    extractor: FeatureExtractor,
    *,
    allow_small: bool = False,
    confidence: float = 0.95,
    report: Report = lambda what, done, total: None,
) -> xr.Dataset:
    """Every distance of every set to every reference; ``studies.quality.variables`` defines each variable.

    References are the real images, and full precision on other noise. Floors are full precision against its repeat,
    and held-out against real images. Fréchet distances, precision and recall take equal sizes: the larger set's
    first samples of a fixed shuffling.

    Args:
        sets: the images.
        extractor: their features.
        allow_small: Fréchet distances of generated samples from fewer than 20 per dimension, flagged. The held-out
            floor, whose size is what it is, is flagged in any case.
        confidence: of every interval.
        report: progress.

    Raises:
        BadInput: too few samples, or images that do not fit the extractor.
    """
    # full precision first: the others are compared with it
    images = {FULL_PRECISION: sets.generated[FULL_PRECISION], **sets.generated}
    images |= {} if sets.held_out is None else {HELD_OUT: sets.held_out}
    others = {**({} if sets.real is None else {REAL: sets.real}), FULL_PRECISION: sets.repeat}
    features: dict[str, Features] = {}
    clipped: dict[str, float] = {}
    for done, (name, each) in enumerate(images.items()):
        report("features", done, len(images) + len(others))
        features[name], clipped[name] = features_of(extractor, each)
    references = {name: features_of(extractor, each)[0] for name, each in others.items()}
    report("features", len(images) + len(others), len(images) + len(others))
    dataset = empty_dataset(
        {"sample_set": list(images), "reference": list(others), "part_count": [1, 2, 4, 5]}, confidence
    )
    dataset["samples"][:] = [len(each) for each in images.values()]
    dataset["clipped_share"][:] = list(clipped.values())
    for variable, part in (("frechet", "pooled"), ("spatial_frechet", "spatial")):
        if getattr(features[FULL_PRECISION], part) is None:  # of one extractor: all or none
            for name in (variable, f"{variable}_infinite", f"{variable}_infinite_difference"):
                dataset[f"{name}_reason"][:] = Reason.NO_FEATURES
            continue
        left = {name: FeatureSet(getattr(each, part), Role.GENERATED) for name, each in features.items()}
        right = {name: FeatureSet(getattr(each, part), Role.REFERENCE) for name, each in references.items()}
        _frechet(dataset, variable, left, right, allow_small, confidence)
        report(variable.replace("_", " "), 1, 1)
    for reference, found in references.items():
        _kernel(dataset, features, reference, found, confidence)
        _manifolds(dataset, features, reference, found)
        report(f"distances to {reference}", 1, 1)
    _scores(dataset, features, confidence)
    dataset.attrs |= {
        "features": extractor.name,
        "features_digest": extractor.digest,
        "feature_dimension": features[FULL_PRECISION].pooled.shape[1],
        "spatial_dimension": 0 if (spatial := features[FULL_PRECISION].spatial) is None else spatial.shape[1],
    }
    return dataset


def _compared(dataset: xr.Dataset, reference: str) -> list[str]:
    """The sets that are compared with a reference: held-out images with real ones only."""
    return [name for name in dataset.sample_set.values.tolist() if (name, reference) != (HELD_OUT, FULL_PRECISION)]


def _paired(name: str) -> bool:
    return name not in (HELD_OUT, FULL_PRECISION)


def _frechet(
    dataset: xr.Dataset,
    variable: str,
    sets: dict[str, FeatureSet],
    references: dict[str, FeatureSet],
    allow_small: bool,
    confidence: float,
) -> None:
    dimension = sets[FULL_PRECISION].rows.shape[1]
    for reference, other in references.items():
        curves: dict[str, FrechetCurve] = {}
        for name in _compared(dataset, reference):
            at = {"sample_set": name, "reference": reference}
            n = min(len(sets[name].rows), len(other.rows))
            parts, whole, line = parts_of(n, dimension, allow_small=allow_small or name == HELD_OUT)
            curve = curves[name] = frechet_curve(sets[name].cut(n, parts), other.cut(n, parts))
            dataset[variable].loc[at] = curve.at_all
            dataset[f"{variable}_reason"].loc[at] = whole
            _put(dataset, f"{variable}_infinite", at, curve.interval(confidence), line)
            if variable == "frechet":
                dataset["frechet_samples"].loc[at] = n
                dataset["frechet_slope"].loc[at] = curve.slope()
                chosen = {**at, "part_count": list(parts)}
                dataset["frechet_by_part"].loc[chosen] = curve.values[0]
                dataset["inverse_part_size"].loc[chosen] = curve.inverse_sizes[0]
                if HELD_OUT in sets and reference == REAL and len(sets[HELD_OUT].rows) <= n:
                    floor = mean_frechet_in_parts(sets[name].rows, other.rows, len(sets[HELD_OUT].rows))
                    dataset["frechet_at_floor"].loc[at] = floor
            if _paired(name):
                difference = curve.difference(curves[FULL_PRECISION], confidence)
                _put(dataset, f"{variable}_infinite_difference", at, difference, line)
                if variable == "frechet":
                    dataset["frechet_difference"].loc[at] = curve.at_all - curves[FULL_PRECISION].at_all


def _put(dataset: xr.Dataset, name: str, at: dict[str, str], interval: Interval, reason: Reason) -> None:
    if reason == Reason.DEFINED and np.isnan(interval.low):
        reason = Reason.NO_INTERVAL
    dataset[f"{name}_reason"].loc[at] = reason
    if reason != Reason.TOO_FEW:
        put_interval(dataset, name, at, interval)


def _kernel(
    dataset: xr.Dataset, features: dict[str, Features], reference: str, found: Features, confidence: float
) -> None:
    for name in _compared(dataset, reference):
        at = {"sample_set": name, "reference": reference}
        rows, other = features[name].pooled, found.pooled
        differs = _paired(name)
        if min(len(rows), len(other)) < KID_LEAST:
            dataset["kid_reason"].loc[at] = Reason.TOO_FEW
            if differs:
                dataset["kid_difference_reason"].loc[at] = Reason.TOO_FEW
            continue
        value = kernel_distance(rows, other, confidence=confidence)
        _put(dataset, "kid", at, _as_interval(value), Reason.DEFINED)
        dataset["kid_samples"].loc[at], dataset["kid_reference_samples"].loc[at] = value.x_samples, value.y_samples
        if differs:
            paired = kernel_distance_difference(rows, features[FULL_PRECISION].pooled, other, confidence=confidence)
            _put(dataset, "kid_difference", at, _as_interval(paired), Reason.DEFINED)


def _as_interval(value: KernelDistance) -> Interval:
    estimate, error, low, high = (np.asarray(number) for number in value[:4])
    return Interval(estimate, error, low, high, np.asarray(0, np.int8))


def _manifolds(dataset: xr.Dataset, features: dict[str, Features], reference: str, found: Features) -> None:
    baseline = None
    for name in _compared(dataset, reference):
        at = {"sample_set": name, "reference": reference}
        n = min(len(features[name].pooled), len(found.pooled))
        if n <= NEIGHBOURS:
            dataset["precision_reason"].loc[at] = Reason.TOO_FEW
            continue
        rows = FeatureSet(features[name].pooled, Role.GENERATED).first(n)
        shares = precision_recall(rows, FeatureSet(found.pooled, Role.REFERENCE).first(n))
        baseline = shares if name == FULL_PRECISION else baseline
        dataset["precision"].loc[at], dataset["recall"].loc[at] = shares.precision, shares.recall
        dataset["manifold_samples"].loc[at] = n
        dataset["precision_reason"].loc[at] = Reason.DEFINED
        if _paired(name) and baseline is not None:
            dataset["precision_difference"].loc[at] = shares.precision - baseline.precision
            dataset["recall_difference"].loc[at] = shares.recall - baseline.recall


def _scores(dataset: xr.Dataset, features: dict[str, Features], confidence: float) -> None:
    baseline = features[FULL_PRECISION].posteriors
    for name, found in features.items():
        at = {"sample_set": name}
        if found.posteriors is None or baseline is None or len(found.posteriors) < 2 * GROUPS:
            reason = Reason.NO_FEATURES if found.posteriors is None else Reason.TOO_FEW
            dataset["inception_score_reason"].loc[at] = reason
            if _paired(name):
                dataset["inception_score_ratio_reason"].loc[at] = reason
            continue
        score = inception_score(found.posteriors, confidence=confidence)
        _put(dataset, "inception_score", at, score, Reason.DEFINED)
        if _paired(name):
            ratio = inception_score_ratio(found.posteriors, baseline, confidence=confidence)
            _put(dataset, "inception_score_ratio", at, ratio, Reason.DEFINED)
