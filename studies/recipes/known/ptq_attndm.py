"""PTQ-AttnDM: attention in head-aligned groups, with bits that follow the step and fewer of them for the key."""

from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.head_groups import HeadGroupedRanges
from studies.recipes.stages.step_bits import AttentionSchedule, ScheduleBits

RECIPE = Recipe(
    "ptq-attndm",
    "Gives attention 8 head-aligned groups of channels and b + 2 sigmoid(importance) bits at each step, the key fewer.",
    Source("PTQ-AttnDM, Explained Simply", "the author's summary of a dissertation", "2026"),
    (HeadGroupedRanges(8), ScheduleBits(AttentionSchedule(importance="one-step", rounding="nearest"), 64)),
    (
        "The source defines no importance: here it is the z-score over the steps of the injected error's power, times "
        "the square of what the sampler multiplies it by in that step.",
        "The source rounds in no stated way: here to the nearest width, halves upwards.",
        "Only attention's activations follow the schedule; its weights and all other layers have the task's bits.",
        "Scores QK^T are quantized to the step's bits over their calibrated range; the source calibrates them and does "
        "not say to how many bits.",
        "Groups are equal parts in order; the source optimises them in a way that it does not state.",
        "Active collection is APQ-DM's with no step skipped, since the source gives no formula.",
    ),
)
