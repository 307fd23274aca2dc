"""Names of corrections that commands take; importing them loads nothing."""

NAMES = (
    "ptqd-unabsorbed", "ptqd", "ptqd-signed", "ptqd-released", "d2dpm", "d2dpm-sampled",
    "tac", "tac-least-squares", "tac-moments", "tac-reconstructed",
)  # fmt: skip

DEFAULT_NAMES = ("ptqd-unabsorbed", "ptqd", "ptqd-signed", "d2dpm", "d2dpm-sampled", "tac")
