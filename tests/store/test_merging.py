"""Claim: a merged store has every run's numbers at their place, shows any damage, and tells what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from samplers.errors import BadInput
from studies.store import merging
from studies.store.exporting import Rows, export
from studies.store.grouping import RUN, blocks, layout, slabs
from studies.store.merging import KEY, PRESENT, merge, open_merged
from studies.study.study import Axis, Study

NUMBERS = ("timestep", "epsilon_injected", "site_injected", "bops")


def only(tree: xr.DataTree) -> xr.Dataset:
    assert not tree.children
    return tree.to_dataset()


def assert_at(found: xr.Dataset, run: xr.Dataset) -> None:
    """One cell of a merged dataset is a run."""
    assert bool(found[PRESENT])
    assert bytes(found[KEY].values).hex() == run.attrs["study_key"]
    for name in NUMBERS:
        assert found[name].dims == run[name].dims
        np.testing.assert_array_equal(found[name], run[name])
        assert found[name].dtype == run[name].dtype


@pytest.mark.parametrize("most", [1, 400, 2**28], ids=["one by one", "slabs", "at once"])
def test_merge__puts_every_run_at_its_place(filled, study, tmp_path: Path, monkeypatch, most: int) -> None:
    monkeypatch.setattr(merging, "MOST_HELD", most)
    store, _, runs = filled(study)
    found = merge(store, tmp_path / "m.zarr")
    assert (found.groups, found.missing) == ((6,), 0)
    merged = only(open_merged(tmp_path / "m.zarr"))
    assert dict(merged.sizes) == {"scheme": 2, "seed": 3, "step": 3, "moment": 3, "site": 2, "key_byte": 32}
    assert list(merged.scheme.values) == ["w8a8", "w4a8"]
    assert list(merged.seed.values) == [0, 1, 5]
    assert merged.model.item() == "digits-unet"
    for run in runs.values():
        assert_at(merged.sel(scheme=run.scheme.item(), seed=run.seed.item()), run)


def test_merge__leaves_room_for_missing_runs(filled, study, tmp_path: Path) -> None:
    store, _, _ = filled(study, leave_out=(1, 3))
    assert merge(store, tmp_path / "m.zarr").missing == 2
    merged = only(open_merged(tmp_path / "m.zarr"))
    assert int(merged[PRESENT].sum()) == 4
    gap = merged.sel(scheme="w8a8", seed=1)
    assert not gap[PRESENT]
    assert np.isnan(gap.epsilon_injected).all()


def test_merge__keeps_runs_of_unlike_shape_apart(filled, tmp_path: Path) -> None:
    axes = (Axis({"num_inference_steps": (2, 5)}), Axis({"seed": (0, 1)}))
    store, _, runs = filled(Study("ragged", fixed={"scheme": "w8a8"}, axes=axes))
    assert merge(store, tmp_path / "m.zarr").groups == (2, 2)
    tree = open_merged(tmp_path / "m.zarr")
    by_steps = {group.sizes["step"]: group.to_dataset() for group in tree.children.values()}
    for run in runs.values():
        assert_at(by_steps[run.sizes["step"]].sel(seed=run.seed.item()).isel(num_inference_steps=0), run)


def test_merge__lays_zipped_fields_along_one_axis(filled, tmp_path: Path) -> None:
    axes = (Axis({"sampler": ("ddim", "ddpm"), "samples": (8, 16)}), Axis({"seed": (0, 1)}))
    store, _, runs = filled(Study("zipped", fixed={"scheme": "w8a8", "num_inference_steps": 2}, axes=axes))
    merge(store, tmp_path / "m.zarr")
    merged = only(open_merged(tmp_path / "m.zarr"))
    assert dict(merged.sizes)["sampler+samples"] == 2
    for run in runs.values():
        at = int(np.flatnonzero(merged.sampler == run.sampler.item())[0])
        assert merged.samples.values[at] == run.samples.item()
        assert_at(merged.isel({"sampler+samples": at}).sel(seed=run.seed.item()), run)


def test_merge__keeps_a_study_without_axes(filled, tmp_path: Path) -> None:
    store, _, runs = filled(Study("one", fixed={"scheme": "w8a8", "num_inference_steps": 2}))
    merge(store, tmp_path / "m.zarr")
    (run,) = runs.values()
    assert_at(only(open_merged(tmp_path / "m.zarr")), run)


def test_merge__writes_nothing_where_a_run_is_damaged(filled, study, tmp_path: Path) -> None:
    store, _, runs = filled(study)
    path = store.run(list(runs)[-1])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadInput, match="digest"):
        merge(store, tmp_path / "m.zarr")
    assert {p.name for p in tmp_path.iterdir()} == {"store"}


def test_merge__never_replaces(filled, study, tmp_path: Path) -> None:
    store, _, _ = filled(study)
    merge(store, tmp_path / "m.zarr")
    with pytest.raises(BadInput, match="never overwritten"):
        merge(store, tmp_path / "m.zarr")


def test_open_merged__finds_every_damaged_chunk(filled, study, tmp_path: Path) -> None:
    store, _, _ = filled(study)
    merge(store, tmp_path / "m.zarr")
    chunks = [path for path in (tmp_path / "m.zarr").rglob("c/**/*") if path.is_file()]
    chunks += [path for path in (tmp_path / "m.zarr").rglob("c") if path.is_file()]
    assert len(chunks) > 10
    for path in chunks:
        content = path.read_bytes()
        changed = bytearray(content)
        changed[len(content) // 2] ^= 4
        path.write_bytes(changed)
        with pytest.raises(BadInput, match="merge again"):
            open_merged(tmp_path / "m.zarr")
        path.write_bytes(content)
    open_merged(tmp_path / "m.zarr")


def test_layout__falls_back_to_one_axis_where_most_cells_are_empty() -> None:
    points = {f"{i:064x}": {"a": i, "b": i} for i in range(10)}
    found = layout([("a",), ("b",)], points)
    assert [axis.name for axis in found.axes] == [RUN]
    assert found.axes[0].fields == ("a", "b")
    assert sorted(found.places.values()) == [(i,) for i in range(10)]


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 4), (2, 3, 5)])
@pytest.mark.parametrize("most", [1, 10, 35, 1000])
def test_blocks__cover_every_cell_once_within_the_limit(shape: tuple[int, ...], most: int) -> None:
    held = slabs(shape, 3, most)
    seen = np.zeros(shape, int)
    for block in blocks(shape, held):
        seen[block] += 1
        assert seen[block].size * 3 <= max(most, 3)
    assert (seen == 1).all()


def test_export__refuses_what_it_cannot_write(filled, study, tmp_path: Path) -> None:
    store, _, _ = filled(study, leave_out=tuple(range(6)))
    with pytest.raises(BadInput, match="csv or"):
        export(store, tmp_path / "rows.xls", None, Rows.RUNS)
    with pytest.raises(BadInput, match="needs a run"):
        export(store, tmp_path / "rows.csv", None, Rows.RUNS)
    (tmp_path / "rows.csv").write_text("mine")
    with pytest.raises(BadInput, match="replaces no file"):
        export(store, tmp_path / "rows.csv", None, Rows.RUNS)
    assert (tmp_path / "rows.csv").read_text() == "mine"
    with pytest.raises(BadInput, match="one study"):
        merge(store, tmp_path / "m.zarr", "other")
