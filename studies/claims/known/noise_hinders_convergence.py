"""TDQ: NIPQ's pseudo-noise cannot be told from the noise that a diffusion model removes, and hinders its training.

The paper's evidence is FID at W4A8 (13.08 against LSQ's 4.53) and W4A4 (30.73 against 7.30). Convergence is measured
where it happens: the lowest denoising loss on the fixed training draws, with true rounding, of 2000 optimizer steps
on the same data and draws (``FULL``). A training that diverges has the loss of its lowest judgement. A twentieth of
the loss is more than another learning rate or a few hundred more steps should be worth to somebody who trains for
2000. NIPQ's learned widths and second phase with rounding are left out (docs/methods/qat.md), which may cost it.
Weights have one learned scale per layer, as in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping

from simulator.calibration.training.methods import LSQ, NIPQ
from simulator.calibration.training.settings import FineTuning
from simulator.calibration.training.train import fine_tune
from simulator.instrument.scheme import Scheme
from simulator.models.loading import load
from simulator.threads import get_threads
from studies.claims.claim import TRAINING_SEEDS, Claim, Endpoint, Report, Setting
from studies.claims.verdict import Direction
from studies.recipes.known.tdq_ptq import SOURCE

BITS = "w4a4"


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """Lowest loss of NIPQ over LSQ's."""

    def lowest(method: LSQ | NIPQ) -> float:
        trained = fine_tune(
            load(setting.subject), Scheme.parse(BITS), method, settings_of(setting), seed=seed, threads=get_threads(),
            progress=lambda done, total: report(f"training, {method.NAME}", done, total),
        )  # fmt: skip
        assert trained is not None
        return min(loss for _, loss in trained.log.judgements if loss == loss)

    return {"loss": lowest(NIPQ()) / lowest(LSQ()) - 1}


def settings_of(setting: Setting) -> FineTuning:
    """Steps and draws of the setting, all else as in the full preset."""
    return FineTuning(steps=setting.steps, draws=setting.samples, start_samples=setting.calibration_samples)


CLAIM = Claim(
    "noise-hinders-convergence",
    "Training with noise in place of rounding converges worse than training with rounding.",
    SOURCE,
    (
        Endpoint(
            "loss", "lowest training-split loss after rounding, NIPQ over LSQ minus 1, W4A4", "1", Direction.ABOVE, 0.05
        ),
    ),
    (Setting("digits-unet", samples=1024, calibration_samples=256, steps=2000),),
    measure,
    seeds=TRAINING_SEEDS,
    trains=True,
)
