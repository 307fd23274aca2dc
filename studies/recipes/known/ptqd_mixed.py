"""PTQD with step-aware mixed precision: few bits where the diffusion's own noise is larger, more where it is not."""

from studies.recipes.known.ptqd import SOURCE
from studies.recipes.recipe import Recipe
from studies.recipes.stages.correction import FitCorrection
from studies.recipes.stages.ranges import Steps, TrajectoryRanges
from studies.recipes.stages.step_bits import ScheduleBits, SNRRule

RECIPE = Recipe(
    "ptqd-mixed",
    "Runs each step at the task's activation bits or at four more, whichever keeps SNR^Q above SNR^F; then corrects.",
    SOURCE,
    (
        TrajectoryRanges(),
        ScheduleBits(SNRRule(above=(0, 4), reading="amplitude", margin_db=0.0), 128),
        TrajectoryRanges(steps=Steps.SCHEME),
        FitCorrection("ptqd"),
    ),
    (
        "The paper starts from Q-Diffusion's reconstructed network; this starts from min-max ranges.",
        "The paper mixes 4 and 8 activation bits; at other widths these are the task's and four more, so that the bit "
        "operations exceed those of the task's bits.",
        "The rule is the printed one, a ratio of amplitudes against one of powers, at each step and without a margin; "
        "the published switch steps do not follow from it.",
        "Widths are chosen under ranges of all steps, then calibrated apart in each run of steps of one width.",
        "The bias is the mean of the residual, as the paper writes; the released code takes that of the raw error.",
    ),
)
