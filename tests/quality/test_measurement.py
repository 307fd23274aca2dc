"""A dataset of quality: values with scale and sizes, floors, paired differences, and reasons for what is missing."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from samplers.errors import BadInput
from studies.quality import Features, ImageSets, Reason, frechet_distance, kernel_distance, measure, precision_recall
from studies.quality.comparison import FeatureSet
from studies.quality.shuffling import Role
from studies.quality.table import difference_rows, distance_rows, verdict
from studies.quality.variables import BY_NAME, FLAGGED, INTERVALS


class Pixels:
    """Features that are pixels: 4 pooled, 2 spatial, posteriors of two classes."""

    name, digest = "pixels@1", "0"

    def __init__(self, everything: bool = True) -> None:
        self.everything = everything

    def __call__(self, images):
        rows = images.flatten(1).numpy()
        share = 0.5 + 0.4 * np.tanh(rows[:, :1])
        return (
            Features(rows, rows[:, :2], np.hstack([share, 1 - share]))
            if self.everything
            else Features(rows, None, None)
        )


def images(seed: int, count: int, scale: float = 0.2) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal((count, 1, 2, 2))).astype(np.float32)


def sets(count: int = 800, real: int = 500, held_out: int = 300) -> ImageSets:
    base = images(1, count)
    generated = {"w8a8": 1.001 * base, "full_precision": base, "w2a2": 1.5 * base}
    return ImageSets(generated, images(2, count), images(3, real), images(4, held_out))


@pytest.fixture(scope="module")
def dataset() -> xr.Dataset:
    return measure(sets(), Pixels())


def test_measure__has_every_variable_with_unit_and_definition(dataset):
    assert set(BY_NAME) <= set(dataset.data_vars)
    for name, variable in BY_NAME.items():
        assert dataset[name].dims == variable.dims
        assert all(dataset[name].attrs[what] for what in ("units", "long_name", "definition"))
    for name in INTERVALS:
        assert {"interval", "confidence"} <= set(dataset[f"{name}_low"].attrs)
    assert dataset.attrs["features"] == "pixels@1"
    assert (dataset.attrs["feature_dimension"], dataset.attrs["spatial_dimension"]) == (4, 2)


def test_measure__agrees_with_each_distance_alone(dataset):
    given = sets()
    clipped = np.clip(given.generated["w2a2"], -1, 1).reshape(800, -1)
    x, y = FeatureSet(clipped, Role.GENERATED), FeatureSet(given.real.reshape(500, -1), Role.REFERENCE)
    cell = dataset.sel(sample_set="w2a2", reference="real")
    assert int(cell.frechet_samples) == 500
    alone = frechet_distance(x.first(500), y.rows, features="pixels")
    assert float(cell.frechet) == pytest.approx(alone.value, rel=1e-9)
    assert float(cell.kid) == kernel_distance(x.rows, y.rows).estimate
    assert (int(cell.kid_samples), int(cell.kid_reference_samples)) == (800, 500)
    assert float(cell.precision) == precision_recall(x.first(500), y.rows).precision
    assert float(dataset.clipped_share.sel(sample_set="w2a2")) == (abs(given.generated["w2a2"]) > 1).mean()


def test_measure__gives_floors(dataset):
    floor = dataset.sel(sample_set="held_out", reference="real")
    assert int(floor.frechet_samples) == 300
    assert float(floor.frechet_at_floor) > 0
    again = dataset.sel(sample_set="full_precision", reference="full_precision")
    assert again.kid_low < 0 < again.kid_high
    assert dataset.frechet_reason.sel(sample_set="held_out", reference="full_precision") == Reason.NOT_COMPARED
    assert np.isnan(dataset.kid.sel(sample_set="held_out", reference="full_precision"))


def test_measure__pairs_schemes_with_full_precision(dataset):
    small = dataset.sel(sample_set="w8a8", reference="real")
    large = dataset.sel(sample_set="w2a2", reference="real")
    assert float(small.kid_difference_standard_error) < 0.05 * float(small.kid_standard_error)
    assert float(large.frechet_infinite_difference_low) > 0
    plain = dataset.sel(sample_set="full_precision", reference="real")
    for name in ("kid", "frechet", "precision", "recall"):
        assert float(large[f"{name}_difference"]) == pytest.approx(float(large[name] - plain[name]), rel=1e-6)
        assert np.isnan(plain[f"{name}_difference"])
    ratio = dataset.inception_score_ratio.sel(sample_set="w2a2")
    scores = dataset.inception_score
    assert float(ratio) == pytest.approx(float(scores.sel(sample_set="w2a2") / scores.sel(sample_set="full_precision")))


def test_measure__refuses_few_samples_and_flags_them_when_asked():
    with pytest.raises(BadInput, match="at least 80 samples"):
        measure(sets(79, 500, 300), Pixels())
    flagged = measure(sets(79, 500, 300), Pixels(), allow_small=True)
    cell = flagged.sel(sample_set="w8a8", reference="real")
    assert cell.frechet_reason == Reason.FEW_PER_DIMENSION
    assert cell.kid_reason == Reason.TOO_FEW
    assert np.isnan([cell.kid, cell.kid_difference]).all()
    assert cell.inception_score_reason == Reason.TOO_FEW


def test_measure__says_which_features_are_missing():
    found = measure(sets(), Pixels(everything=False))
    assert (found.spatial_frechet_reason == Reason.NO_FEATURES).all()
    assert (found.inception_score_reason == Reason.NO_FEATURES).all()
    assert np.isfinite(found.frechet.sel(sample_set="w8a8")).all()


def test_measure__goes_without_real_images():
    given = sets()
    found = measure(ImageSets(given.generated, given.repeat), Pixels())
    assert found.reference.values.tolist() == ["full_precision"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"generated": {"w8a8": images(1, 100)}}, "full_precision among them"),
        ({"generated": {"full_precision": images(1, 100), "real": images(1, 100)}}, "neither"),
        ({"generated": {"full_precision": images(1, 100)}}, "of one size"),
        ({"real": None}, "need real ones"),
    ],
)
def test_image_sets__refuse_what_cannot_be_compared(change, says):
    given = sets()
    with pytest.raises(BadInput, match=says):
        ImageSets(**{**vars(given), **change})


def test_rows__have_floors_first_and_verdicts_of_the_interval_alone(dataset):
    rows = distance_rows(dataset, "real")
    assert [row["sample_set"] for row in rows] == ["held_out", "full_precision", "w8a8", "w2a2"]
    assert [row["floor"] for row in rows] == [True, False, False, False]
    differences = {(row["sample_set"], row["reference"]): row for row in difference_rows(dataset)}
    assert set(differences) == {(name, ref) for name in ("w8a8", "w2a2") for ref in ("real", "full_precision")}
    assert differences["w2a2", "real"]["verdict"] == "worse"
    assert [verdict(0.1, 0.2), verdict(-0.2, -0.1), verdict(-0.1, 0.1)] == ["worse", "better", "inconclusive"]
    assert verdict(np.nan, np.nan) == "inconclusive"


def test_reasons__stand_beside_every_flagged_variable(dataset):
    for name in FLAGGED:
        flags = dataset[f"{name}_reason"].attrs
        assert len(flags["flag_meanings"].split()) == len(flags["flag_values"]) == len(Reason)
