"""What quantization noise is and what corrects it: functions of recorded moments and of sampler coefficients.

Statistics (``sqnr_db``, ``decompose``, ``check_assumptions``) take the dataset of a run and return a dataset with
intervals over samples; corrections (``PTQD``, ``D2DPM``) are values that a run accepts, policies of precision make the
scheme of one. Theory (``rounding_error``, ``optimal_clip``, ``predict_layers``) takes densities, or what a network's
operands are; ``predict_noise`` follows injected noise to the final sample. Names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplers.lazy import lazily

if TYPE_CHECKING:
    from noise_models.absorption.absorbable import feasibility, feasibility_map
    from noise_models.absorption.account import account_absorption, earlier_weights
    from noise_models.absorption.carried import carried_excess
    from noise_models.absorption.rule import absorb, absorbable_bound, lambda_weight
    from noise_models.assumptions.guidance_dependence import compare_guidance
    from noise_models.assumptions.homogeneity import check_homogeneity
    from noise_models.assumptions.normality import check_normality, residual_shape
    from noise_models.assumptions.pattern import measure_pattern
    from noise_models.assumptions.step_dependence import check_step_independence
    from noise_models.assumptions.table import ASSUMPTIONS, check_assumptions, verdict_counts
    from noise_models.assumptions.whiteness import check_whiteness
    from noise_models.before_after.changes import injected_endpoint, paired_change
    from noise_models.before_after.final_samples import final_distribution, final_distribution_change
    from noise_models.before_after.step_variance import one_step_change, one_step_variance
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
    from noise_models.correction.d2dpm import D2DPM, fit_d2dpm, outlier_share_bound
    from noise_models.correction.fresh_noise import FreshNoise
    from noise_models.correction.ptqd import PTQD
    from noise_models.correction.ptqd_fit import fit_ptqd
    from noise_models.correction.timestep_aware import TimestepAware, fit_timestep_aware
    from noise_models.decomposition.drift import measure_drift
    from noise_models.decomposition.held_out import evaluate_held_out
    from noise_models.decomposition.observable import decompose_observable
    from noise_models.decomposition.predictors import PREDICTORS
    from noise_models.decomposition.ptqd_parameters import estimate_ptqd
    from noise_models.decomposition.split import decompose
    from noise_models.exact.discretization import sampler_error
    from noise_models.exact.divergences import (
        Estimate,
        gaussian_kl,
        gaussian_wasserstein,
        mixture_kl,
        mixture_kl_monte_carlo,
    )
    from noise_models.exact.line import SampleDistance, mixture_cdf, mixture_quantile, sample_wasserstein
    from noise_models.exact.mixture_path import LinePath, line_path
    from noise_models.exact.path import GaussianPath, gaussian_path
    from noise_models.inference.intervals import Interval, Scale, from_replicates, jackknife
    from noise_models.inference.pooling import BlockSums, Pooled, block_sums
    from noise_models.inference.sample_size import samples_needed
    from noise_models.metrics import mean_ratio_sqnr_db, sqnr_db
    from noise_models.precision.budget_rule import budgeted_policy
    from noise_models.precision.candidates import Candidates
    from noise_models.precision.comparison import compare_policies, uniform_policies
    from noise_models.precision.gains import gaussian_gains, linear_gains, one_step_gains, sampler_gains, uniform_gains
    from noise_models.precision.measurement import candidate_table
    from noise_models.precision.network_gains import network_gains
    from noise_models.precision.policy import Policy
    from noise_models.precision.ptqd_rule import ptqd_policy
    from noise_models.precision.selection import exact_selection, greedy_selection
    from noise_models.precision.sigmoid_rule import effective_bits, round_bits, sigmoid_policy
    from noise_models.propagation.gains import noise_gains
    from noise_models.propagation.prediction import Predictor, predict_noise
    from noise_models.propagation.transfer import final_variance, noise_transfer
    from noise_models.theory.densities import Density, Folded, Gaussian, Laplace, Uniform
    from noise_models.theory.layer_comparison import compare_layers, shares_within
    from noise_models.theory.layers import contraction_noise, predict_layers
    from noise_models.theory.overload import (
        Clip,
        Convention,
        Distortion,
        Grid,
        aciq_clip,
        aciq_distortion,
        distortion,
        optimal_clip,
    )
    from noise_models.theory.uniform import (
        RoundingError,
        rounding_error,
        rounding_error_series,
        smallest_ratio,
        uniform_noise_power,
        uniform_validity,
    )

__all__ = [
    "ASSUMPTIONS",
    "D2DPM",
    "PREDICTORS",
    "PTQD",
    "BlockSums",
    "Candidates",
    "Clip",
    "Convention",
    "Density",
    "Distortion",
    "Estimate",
    "Folded",
    "FreshNoise",
    "Gaussian",
    "GaussianPath",
    "Grid",
    "Interval",
    "Laplace",
    "LinePath",
    "Policy",
    "Pooled",
    "Predictor",
    "RoundingError",
    "SampleDistance",
    "Scale",
    "TimestepAware",
    "Uniform",
    "absorb",
    "absorbable_bound",
    "account_absorption",
    "aciq_clip",
    "aciq_distortion",
    "amplitude_ratio_from_db",
    "block_sums",
    "budgeted_policy",
    "candidate_table",
    "carried_excess",
    "check_assumptions",
    "check_homogeneity",
    "check_normality",
    "check_step_independence",
    "check_whiteness",
    "compare_guidance",
    "compare_layers",
    "compare_policies",
    "contraction_noise",
    "db_from_amplitude_ratio",
    "db_from_noise_to_signal",
    "db_from_power_ratio",
    "decompose",
    "decompose_observable",
    "distortion",
    "earlier_weights",
    "effective_bits",
    "estimate_ptqd",
    "evaluate_held_out",
    "exact_selection",
    "feasibility",
    "feasibility_map",
    "final_distribution",
    "final_distribution_change",
    "final_variance",
    "fit_d2dpm",
    "fit_ptqd",
    "fit_timestep_aware",
    "from_replicates",
    "gaussian_gains",
    "gaussian_kl",
    "gaussian_path",
    "gaussian_wasserstein",
    "greedy_selection",
    "injected_endpoint",
    "jackknife",
    "lambda_weight",
    "line_path",
    "linear_gains",
    "mean_ratio_sqnr_db",
    "measure_drift",
    "measure_pattern",
    "mixture_cdf",
    "mixture_kl",
    "mixture_kl_monte_carlo",
    "mixture_quantile",
    "network_gains",
    "noise_gains",
    "noise_to_signal_from_db",
    "noise_transfer",
    "one_step_change",
    "one_step_gains",
    "one_step_variance",
    "optimal_clip",
    "outlier_share_bound",
    "paired_change",
    "power_ratio_from_db",
    "predict_layers",
    "predict_noise",
    "ptqd_policy",
    "ptqd_snr_f",
    "ptqd_threshold_db",
    "residual_shape",
    "round_bits",
    "rounding_error",
    "rounding_error_series",
    "sample_wasserstein",
    "sampler_error",
    "sampler_gains",
    "samples_needed",
    "shares_within",
    "sigmoid_policy",
    "smallest_ratio",
    "sqnr_db",
    "uniform_gains",
    "uniform_noise_power",
    "uniform_policies",
    "uniform_validity",
    "verdict_counts",
]

_MODULES = {
    "absorption.absorbable": ("feasibility", "feasibility_map"),
    "absorption.rule": ("absorb", "absorbable_bound", "lambda_weight"),
    "absorption.account": ("account_absorption", "earlier_weights"),
    "absorption.carried": ("carried_excess",),
    "before_after.changes": ("injected_endpoint", "paired_change"),
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
    "correction.ptqd": ("PTQD",),
    "correction.d2dpm": ("D2DPM", "fit_d2dpm", "outlier_share_bound"),
    "decomposition.split": ("decompose",),
    "theory.densities": (
        "Density",
        "Folded",
        "Gaussian",
        "Laplace",
        "Uniform",
    ),
    "exact.discretization": ("sampler_error",),
    "exact.divergences": ("Estimate", "gaussian_kl", "gaussian_wasserstein", "mixture_kl", "mixture_kl_monte_carlo"),
    "exact.path": ("GaussianPath", "gaussian_path"),
    "before_after.final_samples": ("final_distribution", "final_distribution_change"),
    "correction.fresh_noise": ("FreshNoise",),
    "propagation.gains": ("noise_gains",),
    "inference.intervals": ("Interval", "Scale", "from_replicates", "jackknife"),
    "theory.layer_comparison": (
        "compare_layers",
        "shares_within",
    ),
    "theory.layers": (
        "contraction_noise",
        "predict_layers",
    ),
    "exact.line": ("SampleDistance", "mixture_cdf", "mixture_quantile", "sample_wasserstein"),
    "metrics": ("mean_ratio_sqnr_db", "sqnr_db"),
    "exact.mixture_path": ("LinePath", "line_path"),
    "theory.overload": (
        "Clip",
        "Convention",
        "Distortion",
        "Grid",
        "aciq_clip",
        "aciq_distortion",
        "distortion",
        "optimal_clip",
    ),
    "inference.pooling": ("BlockSums", "Pooled", "block_sums"),
    "precision.budget_rule": ("budgeted_policy",),
    "precision.candidates": ("Candidates",),
    "precision.comparison": ("compare_policies", "uniform_policies"),
    "precision.gains": ("gaussian_gains", "linear_gains", "one_step_gains", "sampler_gains", "uniform_gains"),
    "precision.measurement": ("candidate_table",),
    "precision.network_gains": ("network_gains",),
    "precision.policy": ("Policy",),
    "precision.ptqd_rule": ("ptqd_policy",),
    "precision.selection": ("exact_selection", "greedy_selection"),
    "precision.sigmoid_rule": ("effective_bits", "round_bits", "sigmoid_policy"),
    "propagation.prediction": ("Predictor", "predict_noise"),
    "correction.ptqd_fit": ("fit_ptqd",),
    "before_after.step_variance": ("one_step_change", "one_step_variance"),
    "correction.timestep_aware": ("TimestepAware", "fit_timestep_aware"),
    "propagation.transfer": ("final_variance", "noise_transfer"),
    "theory.uniform": (
        "RoundingError",
        "rounding_error",
        "rounding_error_series",
        "smallest_ratio",
        "uniform_noise_power",
        "uniform_validity",
    ),
    "assumptions.table": (
        "ASSUMPTIONS",
        "check_assumptions",
        "verdict_counts",
    ),
    "decomposition.drift": ("measure_drift",),
    "assumptions.guidance_dependence": ("compare_guidance",),
    "decomposition.held_out": ("evaluate_held_out",),
    "assumptions.homogeneity": ("check_homogeneity",),
    "assumptions.normality": (
        "check_normality",
        "residual_shape",
    ),
    "decomposition.observable": ("decompose_observable",),
    "assumptions.pattern": ("measure_pattern",),
    "decomposition.predictors": ("PREDICTORS",),
    "decomposition.ptqd_parameters": ("estimate_ptqd",),
    "inference.sample_size": ("samples_needed",),
    "assumptions.step_dependence": ("check_step_independence",),
    "assumptions.whiteness": ("check_whiteness",),
}

__getattr__, __dir__ = lazily(__name__, _MODULES)
