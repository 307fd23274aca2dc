"""Images of policies, measured as ``qnoise quality`` measures those of schemes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import xarray as xr

from samplers.sampler import Sampler
from simulator.models.conditioning import Conditioning
from simulator.models.registry import Model
from simulator.paired import Arm
from studies.quality.command import check_fit, default_real
from studies.quality.drawing import EVALUATE, REPEAT
from studies.quality.feature_sets import DIGITS, FeatureExtractor, load_features
from studies.quality.measurement import FULL_PRECISION, REAL, ImageSets, measure
from studies.quality.real_images import RealImages, real_images
from studies.quality.sampling import Generator, final_images

Report = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class QualityScale:
    """What images are measured on.

    Args:
        samples: of each set.
        extractor: the features, those of the shipped digits classifier.
        data: the digits for shipped models, no images for others.
    """

    samples: int
    extractor: FeatureExtractor
    data: RealImages

    @property
    def reference(self) -> str:
        """What the table's distances are to: real images, or without any full precision on other noise."""
        return FULL_PRECISION if self.data.real is None else REAL


def quality_scale(model: Model, name: str, samples: int) -> QualityScale:
    """The scale, found to fit the model and the number of samples.

    Args:
        model: what is sampled.
        name: under which it was loaded.
        samples: of each set.

    Raises:
        BadInput: samples that are no digits, or fewer than 20 per feature dimension.
    """
    extractor, data = load_features(DIGITS), real_images(default_real(name))
    check_fit(extractor, model, data, samples, False)
    return QualityScale(samples, extractor, data)


def measure_policies(
    scale: QualityScale, model: Model, arms: Mapping[str, Arm], sampler: Sampler, *,
    conditioning: Conditioning | None = None, report: Report = lambda what, done, total: None, **common: Any,
) -> xr.Dataset:  # fmt: skip
    """Draw full precision twice and every arm on shared noise; every distance of ``studies.quality.measurement``.

    Args:
        scale: of :func:`quality_scale`.
        model: the network in full precision.
        arms: by name of the policy.
        sampler: the method.
        conditioning: what samples are conditioned on.
        report: progress.
        common: seed and batch size.
    """

    def drawn(name: str, generator: Generator, purpose: str = EVALUATE) -> Any:
        return final_images(
            generator, sampler, samples=scale.samples, purpose=purpose, conditioning=conditioning,
            progress=lambda done, total: report(f"sampling images of {name}", done, total), **common,
        )  # fmt: skip

    generated = {FULL_PRECISION: drawn("full precision", Generator(model))}
    repeat = drawn("full precision again", Generator(model), REPEAT)
    for name, arm in arms.items():
        generated[name] = drawn(name, Generator(model, arm.quantized, arm.correction))
    sets = ImageSets(generated, repeat, scale.data.real, scale.data.held_out)
    return measure(sets, scale.extractor, report=report)
