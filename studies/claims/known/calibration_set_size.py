"""PTQ-AttnDM: the size of the calibration set matters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.known.attention_8_bits import SOURCE
from studies.claims.measuring import final_db, plain, runs
from studies.claims.verdict import Direction

SIZES = (32, 1024)


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """W8A8 with ranges of few and of many samples."""
    recipes = [plain("w8a8", dataclasses.replace(setting, calibration_samples=size)) for size in SIZES]
    few, many = map(final_db, runs(recipes, setting, seed, report))
    return {"gain": many - few}


CLAIM = Claim(
    "calibration-set-size",
    "A larger calibration set gives better samples.",
    SOURCE,
    (
        Endpoint(
            "gain", "SQNR of the final sample, ranges of 1024 samples minus of 32, W8A8", "dB", Direction.ABOVE, 0.5
        ),
    ),
    (Setting("digits-dit"), Setting("digits-unet")),
    measure,
)
