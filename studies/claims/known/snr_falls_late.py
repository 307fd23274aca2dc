"""PTQD: the noise grows against the signal toward the last steps, and reaches it at four bits."""

from __future__ import annotations

from collections.abc import Mapping

from noise_models.conversions import amplitude_ratio_from_db
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import injected_db, plain, runs
from studies.claims.verdict import Direction
from studies.recipes.known.ptqd import SOURCE


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """Injected SQNR of W4A4 along a run."""
    (run,) = runs([plain("w4a4", setting)], setting, seed, report, kinds=("injected",))
    db, tenth = injected_db(run), max(setting.steps // 10, 1)
    return {
        "fall": float(db[-tenth:].mean() - db[:tenth].mean()),
        "last": float(amplitude_ratio_from_db(db[-1])),
    }


CLAIM = Claim(
    "snr-falls-late",
    "The signal-to-noise ratio of the predicted noise falls along the run, to about 1 at W4A4.",
    SOURCE,
    (
        Endpoint(
            "fall", "SQNR of epsilon at the same x_t, last tenth of the steps minus first tenth, W4A4", "dB",
            Direction.BELOW, -3.0,
        ),
        Endpoint("last", "PTQD's SNR^Q (amplitude ratio) at the last step, W4A4", "1", Direction.BELOW, 2.0),
    ),
    (Setting("digits-unet"), Setting("digits-dit")),
    measure,
)  # fmt: skip
