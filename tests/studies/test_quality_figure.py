"""The figure of quality shows what the dataset holds: points over 1/n, the intercept with its interval, KID."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

mpl.use("agg")

from studies.plots.quality import near_and_far, plot_frechet, plot_kid, quality_figure
from studies.plots.style import figure_bytes
from studies.quality.measurement import ImageSets, measure


class Pixels:
    name, digest = "pixels", "0"

    def __call__(self, images):
        from studies.quality import Features

        return Features(images.flatten(1).numpy(), None, None)


@pytest.fixture(scope="module")
def dataset():
    random = np.random.default_rng(0)
    base, repeat, real, held_out = (0.2 * random.standard_normal((n, 1, 2, 2)) for n in (800, 800, 600, 300))
    generated = {"full_precision": base, "w8a8": 1.01 * base, "w2a2": base + 0.7}
    pairs = {name: images.astype(np.float32) for name, images in generated.items()}
    return measure(ImageSets(pairs, *(i.astype(np.float32) for i in (repeat, real, held_out))), Pixels())


def test_plot_frechet__draws_parts_over_inverse_sizes_and_the_intercept(dataset):
    ax = plot_frechet(dataset, "real", sets=["w8a8"], ax=plt.figure().add_subplot())
    cell = dataset.sel(sample_set="w8a8", reference="real")
    points, line = ax.lines[0], ax.lines[1]
    np.testing.assert_allclose(points.get_xdata(), 1000 * cell.inverse_part_size)
    np.testing.assert_allclose(points.get_ydata(), cell.frechet_by_part)
    assert line.get_ydata()[0] == float(cell.frechet_infinite)
    # the line meets the mean of the points
    assert np.interp(points.get_xdata().mean(), *line.get_data()) == pytest.approx(float(cell.frechet_by_part.mean()))


def test_plot_kid__has_a_row_per_set(dataset):
    ax = plot_kid(dataset, "real", ax=plt.figure().add_subplot())
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "full precision", "W8A8", "W2A2", "held-out images (floor)",
    ]  # fmt: skip


def test_near_and_far__keeps_a_set_that_would_flatten_the_others_apart(dataset):
    assert near_and_far(dataset, "real") == (["full_precision", "w8a8", "held_out"], ["w2a2"])


def test_quality_figure__has_a_row_per_reference_and_the_same_bytes_twice(dataset):
    figure, again = quality_figure(dataset), quality_figure(dataset)
    assert len(figure.axes) == 4
    assert any("W2A2" in ax.get_title() for ax in figure.axes)
    assert figure_bytes(figure, "svg") == figure_bytes(again, "svg")
    plt.close("all")
