"""PTQ4DiT: transformers are the harder ones to quantize; PTQ-AttnDM leaves it as a question."""

from __future__ import annotations

from collections.abc import Mapping

from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import final_db, plain, runs
from studies.claims.verdict import Direction
from studies.recipes.known.ptq4dit import RECIPE

UNET = "digits-unet"


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """Final SQNR of the transformer and of the UNet, both on the seed's own samples."""
    other = Setting(UNET, setting.samples, setting.calibration_samples, setting.steps, setting.batch_size)
    dit, unet = (
        [final_db(run) for run in runs([plain(s, where) for s in ("w8a8", "w4a8")], where, seed, report)]
        for where in (setting, other)
    )
    return {"w8a8": dit[0] - unet[0], "w4a8": dit[1] - unet[1]}


CLAIM = Claim(
    "unet-against-dit",
    "A diffusion transformer is harder to quantize than a UNet.",
    RECIPE.source,
    tuple(
        Endpoint(
            scheme, f"SQNR of the final sample, digits-dit minus digits-unet, {scheme.upper()}", "dB",
            Direction.BELOW, -1.0,
        )
        for scheme in ("w8a8", "w4a8")
    ),
    (Setting("digits-dit"),),
    measure,
)  # fmt: skip
