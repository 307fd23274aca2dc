"""PTQ-AttnDM: attention at eight bits is much safer than at four."""

from __future__ import annotations

from collections.abc import Mapping

from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import final_db, plain, runs
from studies.claims.verdict import Direction
from studies.recipes.recipe import Source

SOURCE = Source(
    "PTQ-AttnDM: Self-Attention Enhanced Post-Training Quantisation for Diffusion Models", "its author", "dissertation"
)


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """W8A8 with attention products at 8 and at 4 bits."""
    eight, four = map(final_db, runs([plain(s, setting) for s in ("w8a8", "w8a8-attn4")], setting, seed, report))
    return {"loss": eight - four}


CLAIM = Claim(
    "attention-8-bits",
    "Self-attention at eight bits is much safer than at four.",
    SOURCE,
    (
        Endpoint(
            "loss", "SQNR of the final sample, w8a8 minus the same with operands of QK^T and PV at 4 bits", "dB",
            Direction.ABOVE, 3.0,
        ),
    ),
    (Setting("digits-dit"), Setting("digits-unet")),
    measure,
)  # fmt: skip
