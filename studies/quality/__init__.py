"""How good samples are: distances between sets of images, with their scale, floors, intervals and known biases.

Names load on first use; ``docs/quality.md`` has the definitions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplers.lazy import lazily

if TYPE_CHECKING:
    from studies.quality.extrapolation import FrechetCurve, PartGaussians, frechet_curve
    from studies.quality.feature_sets import FeatureExtractor, Features, features_of, load_features
    from studies.quality.frechet import FrechetDistance, frechet_distance
    from studies.quality.gaussians import Gaussians
    from studies.quality.kid import KernelDistance, kernel_distance, kernel_distance_difference
    from studies.quality.manifolds import PrecisionRecall, precision_recall
    from studies.quality.measurement import ImageSets, measure
    from studies.quality.posteriors import inception_score, inception_score_ratio
    from studies.quality.reasons import Reason
    from studies.quality.sampling import Generator, final_images

__all__ = [
    "FeatureExtractor",
    "Features",
    "FrechetCurve",
    "FrechetDistance",
    "Gaussians",
    "Generator",
    "ImageSets",
    "KernelDistance",
    "PartGaussians",
    "PrecisionRecall",
    "Reason",
    "features_of",
    "final_images",
    "frechet_curve",
    "frechet_distance",
    "inception_score",
    "inception_score_ratio",
    "kernel_distance",
    "kernel_distance_difference",
    "load_features",
    "measure",
    "precision_recall",
]

_MODULES = {
    "extrapolation": ("FrechetCurve", "PartGaussians", "frechet_curve"),
    "feature_sets": ("FeatureExtractor", "Features", "features_of", "load_features"),
    "frechet": ("FrechetDistance", "frechet_distance"),
    "gaussians": ("Gaussians",),
    "kid": ("KernelDistance", "kernel_distance", "kernel_distance_difference"),
    "manifolds": ("PrecisionRecall", "precision_recall"),
    "measurement": ("ImageSets", "measure"),
    "posteriors": ("inception_score", "inception_score_ratio"),
    "reasons": ("Reason",),
    "sampling": ("Generator", "final_images"),
}

__getattr__, __dir__ = lazily(__name__, _MODULES)
