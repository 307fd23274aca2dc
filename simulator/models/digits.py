"""The handwritten digits that scikit-learn bundles, and the one fixed split that every claim about them rests on.

Data: 1797 grey images of 8x8 pixels with integer values 0..16 (UCI "Optical Recognition of Handwritten Digits", test
part, by E. Alpaydin and C. Kaynak), scaled to [-1, 1] by ``pixel / 8 - 1``. The split is recorded in the package
(``weights/digits-split@1.json``) as index lists with the digest of the data they index, so that no library's random
generator can move an image from one part to the other.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samplers.errors import BadInput

SPLIT_FILE = Path(__file__).parent / "weights" / "digits-split@1.json"
HELD_OUT_FRACTION = 0.22
SPLIT_SEED = 20240607


@dataclass(frozen=True)
class Digits:
    """Images (N, 1, 8, 8) float32 in [-1, 1] and labels (N,) int64 of the two disjoint parts."""

    train: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    held_out: NDArray[np.float32]
    held_out_labels: NDArray[np.int64]

    def part(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Images and labels of "train" or "held_out"."""
        return getattr(self, name), getattr(self, f"{name}_labels")


def raw_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels (1797, 8, 8) uint8 in 0..16 and labels (1797,) as scikit-learn ships them."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise BadInput(
            "the digits data needs scikit-learn", got="no such package", fix="pip install 'qnoise[train]'"
        ) from error
    bunch = load_digits()
    return bunch.images.astype(np.uint8), bunch.target.astype(np.int64)


def data_digest(pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    """SHA-256 over the uint8 pixels followed by the labels as uint8, both in C order."""
    return hashlib.sha256(pixels.tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()


def make_split(labels: NDArray[np.int64]) -> dict[str, list[int]]:
    """Draw the stratified split: of every class, ``HELD_OUT_FRACTION`` of its images (rounded) are held out."""
    held_out: list[int] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = np.random.Generator(np.random.Philox(key=[SPLIT_SEED, int(label)])).permutation(members)
        held_out += order[: round(HELD_OUT_FRACTION * len(members))].tolist()
    return {"train": sorted(set(range(len(labels))) - set(held_out)), "held_out": sorted(held_out)}


def write_split(path: Path = SPLIT_FILE) -> None:
    """Record the split of the installed data; done once, the file is part of the package from then on."""
    pixels, labels = raw_digits()
    record = {
        "data": "sklearn.datasets.load_digits",
        "sha256": data_digest(pixels, labels),
        "rule": f"stratified by label, {HELD_OUT_FRACTION} of each class held out, Philox key [{SPLIT_SEED}, label]",
        **make_split(labels),
    }
    path.write_text(json.dumps(record) + "\n")


def load_digits(split_file: Path = SPLIT_FILE) -> Digits:
    """Load both parts.

    Raises:
        BadInput: scikit-learn is missing, the split file is unreadable, or the installed data is not the data that
            the split was recorded for.
    """
    pixels, labels = raw_digits()
    try:
        record = json.loads(split_file.read_text())
        train, held_out = np.array(record["train"], dtype=np.int64), np.array(record["held_out"], dtype=np.int64)
        expected = record["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            "the recorded split must be readable JSON", got=f"{split_file} ({error})", fix="reinstall qnoise"
        ) from error
    digest = data_digest(pixels, labels)
    if digest != expected:
        raise BadInput(
            f"the digits must be those of the recorded split (sha256 {expected[:16]}...)",
            got=f"sha256 {digest[:16]}...",
            fix="install an unmodified scikit-learn; results on other pixels are not comparable",
        )
    images = (pixels.astype(np.float32) / 8.0 - 1.0)[:, None]
    return Digits(images[train], labels[train], images[held_out], labels[held_out])
