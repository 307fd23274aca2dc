"""One invocation of ``qnoise quality`` as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from samplers.errors import BadInput
from studies.job import Job

if TYPE_CHECKING:
    from simulator.models.registry import Model
    from studies.quality.feature_sets import FeatureExtractor

QUALITY_VERSION = 1
"""Raised with every change of these numbers."""

PUBLISHABLE = 10_000
"""Generated samples below which numbers are for orientation."""


@dataclass(frozen=True)
class QualityJob:
    """Sets to draw, and the scale to measure them on.

    Args:
        job: model, one part (sampler and schemes), steps, samples and seeds.
        features: what ``feature_sets.load_features`` takes.
        real: what ``real_images.real_images`` takes.
        ptqd: whether every scheme is drawn with PTQD's correction, too.
        allow_small: Fréchet distances from fewer than 20 samples per dimension, flagged.
    """

    job: Job
    features: str = "digits-classifier"
    real: str = "digits"
    ptqd: bool = False
    allow_small: bool = False

    def __post_init__(self) -> None:
        if len(self.job.parts) != 1:
            raise BadInput("quality takes one sampler", got=f"{len(self.job.parts)} parts", fix="make a job of each")

    def config(self, model: Model, extractor: FeatureExtractor, real: dict[str, Any]) -> dict[str, Any]:
        """All that determines the results, as plain JSON values."""
        return {
            **self.job.config(model),
            **real,
            "features": extractor.name,
            "features_digest": extractor.digest,
            "ptqd": self.ptqd,
            "allow_small": self.allow_small,
            "quality_version": QUALITY_VERSION,
        }
