"""What quantization noise is and what corrects it: functions of recorded moments and of sampler coefficients.

Statistics (``sqnr_db``, ``decompose``) take the dataset of a run and return a dataset with intervals over samples;
corrections (``PTQD``) are values that a run accepts. Names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from noise_models.absorption import absorb, absorbable_bound, feasibility, lambda_weight
    from noise_models.conversions import (
        amplitude_ratio_from_db,
        db_from_amplitude_ratio,
        db_from_noise_to_signal,
        db_from_power_ratio,
        noise_to_signal_from_db,
        power_ratio_from_db,
        ptqd_snr_f,
        ptqd_threshold_db,
    )
    from noise_models.correction import PTQD
    from noise_models.decomposition import decompose
    from noise_models.gains import noise_gains
    from noise_models.intervals import Interval, Scale, from_replicates, jackknife
    from noise_models.metrics import mean_ratio_sqnr_db, sqnr_db
    from noise_models.pooling import BlockSums, Pooled, block_sums
    from noise_models.propagation import Predictor, predict_noise
    from noise_models.ptqd_fit import fit_ptqd
    from noise_models.transfer import final_variance, noise_transfer

__all__ = [
    "PTQD",
    "BlockSums",
    "Interval",
    "Pooled",
    "Predictor",
    "Scale",
    "absorb",
    "absorbable_bound",
    "amplitude_ratio_from_db",
    "block_sums",
    "db_from_amplitude_ratio",
    "db_from_noise_to_signal",
    "db_from_power_ratio",
    "decompose",
    "feasibility",
    "final_variance",
    "fit_ptqd",
    "from_replicates",
    "jackknife",
    "lambda_weight",
    "mean_ratio_sqnr_db",
    "noise_gains",
    "noise_to_signal_from_db",
    "noise_transfer",
    "power_ratio_from_db",
    "predict_noise",
    "ptqd_snr_f",
    "ptqd_threshold_db",
    "sqnr_db",
]

_MODULES = {
    "absorption": ("absorb", "absorbable_bound", "feasibility", "lambda_weight"),
    "conversions": (
        "amplitude_ratio_from_db",
        "db_from_amplitude_ratio",
        "db_from_noise_to_signal",
        "db_from_power_ratio",
        "noise_to_signal_from_db",
        "power_ratio_from_db",
        "ptqd_snr_f",
        "ptqd_threshold_db",
    ),
    "correction": ("PTQD",),
    "decomposition": ("decompose",),
    "gains": ("noise_gains",),
    "intervals": ("Interval", "Scale", "from_replicates", "jackknife"),
    "metrics": ("mean_ratio_sqnr_db", "sqnr_db"),
    "pooling": ("BlockSums", "Pooled", "block_sums"),
    "propagation": ("Predictor", "predict_noise"),
    "ptqd_fit": ("fit_ptqd",),
    "transfer": ("final_variance", "noise_transfer"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load an exported name from its module on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'noise_models' has no attribute {name!r}")
    value = getattr(import_module(f"noise_models.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the exported names, loaded or not."""
    return sorted({*globals(), *__all__})
