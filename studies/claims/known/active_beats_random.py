"""PTQ-AttnDM: active timestep sampling beats random and heuristic sampling of calibration data.

Its summary gives no formula; active sampling is APQ-DM's (``docs/methods/collection.md``), with soft entropies, the
released weight, and the released share of steps left out. All three take one point of each of equally many samples;
random is uniform over steps, the heuristic is PTQ4DM's normal draw. Ranges are extremes, W8A8. Half a dB, 11 % of the
noise, is what would make one take the trouble.
"""

from __future__ import annotations

from collections.abc import Mapping

from simulator.calibration.channels import PerChannel
from simulator.calibration.collection.active import Active
from simulator.calibration.collection.entropies import step_entropies
from simulator.calibration.collection.normal import Normal
from simulator.calibration.collection.policy import Collection
from simulator.calibration.collection.random_steps import RandomSteps
from simulator.calibration.steps import StepSets
from simulator.calibration.trajectory import calibrate_ranges
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.known.attention_8_bits import SOURCE
from studies.claims.measuring import final_db, runs, subject
from studies.claims.verdict import Direction
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.collected import CollectedRanges

ENTROPY_SAMPLES = 64
SKIPPED = 0.3
"""Of the steps, the noisiest: the released code's 30 of 100."""


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """W8A8 with ranges of three collections of one size."""

    def recipe(collection: Collection) -> Recipe:
        stages = (CollectedRanges(collection, setting.calibration_samples),)
        return Recipe(str(collection.config()["name"]), "W8A8.", Source("", "", ""), stages)

    policies = (active(setting, seed, report), RandomSteps(1), Normal())
    chosen, random, heuristic = map(final_db, runs([recipe(policy) for policy in policies], setting, seed, report))
    return {"random": chosen - random, "heuristic": chosen - heuristic}


def active(setting: Setting, seed: int, report: Report) -> Active:
    """The policy, its entropies from ranges per channel and step."""
    model, sampler = subject(setting)
    ranges = calibrate_ranges(
        model, sampler, samples=min(ENTROPY_SAMPLES, setting.calibration_samples), seed=seed,
        batch_size=setting.batch_size, granularity=PerChannel(), steps=StepSets.each(setting.steps),
        progress=lambda done, total: report("entropies", done, total),
    )  # fmt: skip
    return Active(step_entropies(ranges, setting.steps), skip=int(SKIPPED * setting.steps))


CLAIM = Claim(
    "active-beats-random",
    "Calibration at actively chosen timesteps beats calibration at random or heuristically chosen ones.",
    SOURCE,
    (
        Endpoint("random", "SQNR of the final sample, active minus random timesteps, W8A8", "dB", Direction.ABOVE, 0.5),
        Endpoint("heuristic", "the same, active minus normally drawn timesteps", "dB", Direction.ABOVE, 0.5),
    ),
    (
        Setting("digits-unet", samples=256, calibration_samples=512),
        Setting("digits-dit", samples=256, calibration_samples=512),
    ),
    measure,
)
