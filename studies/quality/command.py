"""``qnoise quality``: from options to a results folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.main_job import job_from_options, put_working_folder_on_path

if TYPE_CHECKING:
    import xarray as xr

DEFAULT_SCHEMES = ("w8a8", "w4a8", "w4a4")
DATASET = "quality.nc"


def run_quality(
    *,
    out: Path,
    as_json: bool,
    features: str,
    real: str | None,
    ptqd: bool,
    allow_small: bool,
    schemes: tuple[str, ...],
    **options: Any,
) -> None:
    """Draw and measure, or find it done; leave dataset and figure, and print the tables.

    Raises:
        BadInput: an option breaks its rule, before anything is drawn.
    """
    started = time.time()
    import torch  # noqa: F401 - before any kernel, so that both use torch's OpenMP pool and not one each

    from studies.quality.job import QualityJob

    job = job_from_options(schemes=schemes or DEFAULT_SCHEMES, **options)
    asked = QualityJob(job, features, default_real(job.model) if real is None else real, ptqd, allow_small)
    from simulator.arithmetic.compilation import compiling

    with compiling() as kernels_ready:
        dataset, folder, reused = _find_or_compute(asked, out, kernels_ready, started)
    _show(dataset, folder, reused, as_json)


def default_real(model: str) -> str:
    """The digits for shipped models, no images for others."""
    from simulator.models.loading import is_factory, is_folder
    from studies.quality.real_images import DIGITS, NONE

    return NONE if is_folder(model) or is_factory(model) else DIGITS


def _find_or_compute(
    asked: Any, out: Path, kernels_ready: Callable[[], None], started: float
) -> tuple[xr.Dataset, Path, bool]:
    """The job's dataset, its folder, and whether it was there already."""
    from simulator.models.loading import is_factory, load
    from simulator.provenance import run_key
    from simulator.threads import set_threads
    from studies.console import progress
    from studies.execute import plan
    from studies.quality.drawing import draw
    from studies.quality.feature_sets import load_features
    from studies.quality.measurement import ImageSets, measure
    from studies.quality.real_images import real_images
    from studies.results import find_or_publish, folder_for, require_writable

    job = asked.job
    set_threads(job.threads)
    if is_factory(job.model) or is_factory(asked.features):
        put_working_folder_on_path()
    model = load(job.model)
    extractor, data = load_features(asked.features), real_images(asked.real)
    checked, config = plan(job, model), asked.config(model, extractor, data.config)
    check_fit(extractor, model, data, job.samples, asked.allow_small)
    require_writable(out)
    folder = folder_for(out, model.name, run_key(config), "quality")

    def compute() -> dict[str, bytes]:
        with progress() as report:
            generated, repeat = draw(checked, report, kernels_ready, ptqd=asked.ptqd)
            sets = ImageSets(generated, repeat, data.real, data.held_out)
            dataset = measure(sets, extractor, allow_small=asked.allow_small, report=report)
        return _files(_described(dataset, config, model, asked), config, started)

    (dataset, *_), reused = find_or_publish(folder, config, compute)
    return dataset, folder, reused


def check_fit(extractor: Any, model: Any, data: Any, samples: int, allow_small: bool) -> None:
    """Find out before sampling whether images fit the features, and whether there will be enough of them."""
    import numpy as np
    import torch

    from samplers.errors import BadInput
    from studies.quality.feature_sets import features_of
    from studies.quality.frechet import size_reason

    latent = np.zeros((1, *model.sample_shape), np.float32)
    images = latent if model.decoder is None else model.decoder.decode(torch.from_numpy(latent)).numpy()
    dimension = features_of(extractor, images)[0].pooled.shape[1]
    if data.real is not None and data.real.shape[1:] != images.shape[1:]:
        raise BadInput(
            f"real images must be shaped like samples, {images.shape[1:]}",
            got=data.real.shape[1:],
            fix="name others with --real, or --real none",
        )
    size_reason(samples if data.real is None else min(samples, len(data.real)), dimension, allow_small=allow_small)


def _described(dataset: xr.Dataset, config: dict[str, Any], model: Any, asked: Any) -> xr.Dataset:
    from simulator.provenance import canonical, environment, run_key

    (part,) = asked.job.parts
    dataset.attrs |= {"key": run_key(config), "config": canonical(config), **environment()}
    scalars = {
        "model": f"{model.name}@{model.version}",
        "sampler": part.sampler,
        "steps": asked.job.num_inference_steps,
    }
    return dataset.assign_coords(scalars)


def _files(dataset: xr.Dataset, config: dict[str, Any], started: float) -> dict[str, bytes]:
    """Every file of the results folder, by name."""
    import matplotlib

    matplotlib.use("agg")
    from studies.plots.quality import quality_figure
    from studies.plots.style import figure_bytes
    from studies.results import complete
    from studies.store.files import dataset_bytes

    figure = quality_figure(dataset)
    files = {DATASET: dataset_bytes(dataset)}
    files |= {f"quality.{suffix}": figure_bytes(figure, suffix) for suffix in ("pdf", "png")}
    return complete(files, config, [DATASET], started)


def _show(dataset: xr.Dataset, folder: Path, reused: bool, as_json: bool) -> None:
    from studies.console import print_json
    from studies.quality.job import PUBLISHABLE
    from studies.quality.measurement import FULL_PRECISION
    from studies.quality.table import difference_rows, distance_rows, print_quality
    from studies.results import found_or_wrote

    if as_json:
        distances = [
            row for reference in dataset.reference.values.tolist() for row in distance_rows(dataset, reference)
        ]
        summary = {
            "folder": str(folder),
            "reused": reused,
            "features": dataset.attrs["features"],
            "feature_dimension": int(dataset.attrs["feature_dimension"]),
            "distances": distances,
            "differences": difference_rows(dataset),
        }
        print_json(summary)
        return
    print_quality(dataset)
    samples = int(dataset.samples.sel(sample_set=FULL_PRECISION))
    if samples < PUBLISHABLE:
        print(f"{samples} samples: for orientation; publish numbers of {PUBLISHABLE} or more (--samples)")
    print(found_or_wrote(folder, reused))
