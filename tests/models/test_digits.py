"""The digits split is stratified, disjoint, complete, and bound to the data by a digest."""

from __future__ import annotations

import builtins
import json

import numpy as np
import pytest

from samplers.errors import BadInput
from simulator.models.digits import HELD_OUT_FRACTION, SPLIT_FILE, load_digits, make_split, raw_digits

pytest.importorskip("sklearn")


def test_split__is_disjoint_and_complete():
    record = json.loads(SPLIT_FILE.read_text())
    assert sorted(record["train"] + record["held_out"]) == list(range(len(raw_digits()[0])))


def test_split__is_stratified_to_the_image():
    digits = load_digits()
    both = np.concatenate([digits.train_labels, digits.held_out_labels])
    expected = [round(HELD_OUT_FRACTION * count) for count in np.bincount(both)]
    assert np.bincount(digits.held_out_labels).tolist() == expected


def test_split__is_what_its_rule_draws():
    record = json.loads(SPLIT_FILE.read_text())
    assert make_split(raw_digits()[1]) == {"train": record["train"], "held_out": record["held_out"]}


def test_load_digits__scales_sixteen_levels_to_minus_one_to_one():
    digits = load_digits()
    pixels = raw_digits()[0]
    assert digits.train.dtype == np.float32
    assert digits.train.shape[1:] == (1, 8, 8)
    expected = pixels[json.loads(SPLIT_FILE.read_text())["train"]]
    np.testing.assert_array_equal((digits.train[:, 0] + 1) * 8, expected)


def test_load_digits__rejects_data_of_another_digest(tmp_path):
    record = json.loads(SPLIT_FILE.read_text())
    other = tmp_path / "split.json"
    other.write_text(json.dumps(record | {"sha256": "0" * 64}))
    with pytest.raises(BadInput, match="recorded split"):
        load_digits(other)


@pytest.mark.parametrize("content", ["", "{", "{}", "[]"])
def test_load_digits__rejects_a_broken_split_file(tmp_path, content):
    broken = tmp_path / "split.json"
    broken.write_text(content)
    with pytest.raises(BadInput, match="readable JSON"):
        load_digits(broken)


def test_raw_digits__names_the_extra_when_scikit_learn_is_missing(monkeypatch):
    real_import = builtins.__import__

    def without_sklearn(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_sklearn)
    with pytest.raises(BadInput, match=r"qnoise\[train\]"):
        raw_digits()
