"""Q-Diffusion: the two halves of a skip concatenation need quantizers of their own.

Half a decibel is 11 % of the noise: less is no reason to add a second quantizer and an addition. At four activation
bits errors may leave nothing of the final sample, so there epsilon at full precision's x_t is the measure.
"""

from __future__ import annotations

from collections.abc import Mapping

from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import final_db, injected_db, plain, runs
from studies.claims.transformed import transformed
from studies.claims.verdict import Direction
from studies.recipes.known.q_diffusion import RECIPE
from studies.recipes.stages.transforms import SplitShortcuts


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """W4A8 and W8A4, split and not."""

    def both(scheme: str, kind: str) -> tuple:
        recipes = [plain(scheme, setting), transformed("split", scheme, setting, SplitShortcuts())]
        return runs(recipes, setting, seed, report, kinds=(kind,))

    whole, split = map(final_db, both("w4a8", "accumulated"))
    whole_a4, split_a4 = (float(injected_db(run).mean()) for run in both("w8a4", "injected"))
    return {"w4a8": split - whole, "w8a4": split_a4 - whole_a4}


CLAIM = Claim(
    "split-shortcut-helps",
    "Quantizing the halves of a skip concatenation apart improves low bit widths.",
    RECIPE.source,
    (
        Endpoint("w4a8", "SQNR of the final sample, split minus not, W4A8", "dB", Direction.ABOVE, 0.5),
        Endpoint("w8a4", "SQNR of epsilon, mean over steps, split minus not, W8A4", "dB", Direction.ABOVE, 0.5),
    ),
    (Setting("digits-unet"),),
    measure,
)
