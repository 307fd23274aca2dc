"""Claim: what is planted is found, nothing else is, and every interval covers at its nominal rate."""

import numpy as np
import pytest
from planted_noise import planted, recorded_images, recorded_run
from scipy import special, stats

from noise_models import (
    check_assumptions,
    check_homogeneity,
    check_normality,
    check_step_independence,
    check_whiteness,
    compare_guidance,
    decompose,
    measure_pattern,
    residual_shape,
    verdict_counts,
)
from noise_models.assumptions.correlation_length import effective_size
from noise_models.assumptions.normality import kurtosis_z, omnibus_p, shape, skewness_z
from noise_models.inference.verdicts import equivalence, word
from samplers import BadInput


def images(seed: int, steps: int = 4, samples: int = 64, channels: int = 1, side: int = 8):
    """Signal and residual, both white and normal; e = 0.1 y + 0.2 w in the tests."""
    generator = np.random.default_rng(seed)
    shape = (steps, samples, channels, side, side)
    return generator.standard_normal(shape), generator.standard_normal(shape), generator


def run_of(y: np.ndarray, w: np.ndarray, **options):
    return recorded_images(y, 0.1 * y + 0.2 * w, **options)


def coverage(result, name: str, truth) -> float:
    return float(((result[f"{name}_low"] <= truth) & (truth <= result[f"{name}_high"])).mean())


# Normality


def test_omnibus__is_dagostino_and_pearsons_as_scipy_has_it() -> None:
    generator = np.random.default_rng(1)
    for size in (20, 33, 200):
        for values in (generator.standard_normal((50, size)), generator.exponential(size=(50, size))):
            skewness, excess = shape(values)
            np.testing.assert_allclose(skewness_z(skewness, size), stats.skewtest(values, axis=1).statistic, rtol=1e-9)
            np.testing.assert_allclose(
                kurtosis_z(excess, size), stats.kurtosistest(values, axis=1).statistic, rtol=1e-9
            )
            np.testing.assert_allclose(omnibus_p(skewness, excess, size), stats.normaltest(values, axis=1).pvalue)
    assert np.isnan(omnibus_p(np.zeros(2), np.zeros(2), 19)).all()


def test_residual_shape__is_that_of_the_raw_residual() -> None:
    y, w, generator = images(2, channels=2)
    e = 0.3 * y + generator.exponential(size=y.shape)
    e[:, :, 1] += 2 + 0.5 * w[:, :, 1]
    e = (y + e) - y
    found = residual_shape(recorded_images(y, e), "epsilon_injected")
    for step in range(len(y)):
        k = np.polyfit(y[step].ravel(), e[step].ravel(), 1)[0]
        residual = e[step] - k * y[step]
        residual -= residual.mean((0, 2, 3), keepdims=True)
        np.testing.assert_allclose(found.skewness[step], stats.skew(residual.ravel()), rtol=1e-9)
        np.testing.assert_allclose(found.excess_kurtosis[step], stats.kurtosis(residual.ravel()), rtol=1e-9)


def test_residual_shape__covers_at_its_nominal_rate() -> None:
    # t-like tails by a common scale per element: w = z sqrt(g), g uniform on [0.5, 1.5]: excess 3 E[g^2] - 3 = 0.25.
    # 500 steps: standard error 1 %.
    generator = np.random.default_rng(3)
    shape = (500, 64, 1, 64)
    y = generator.standard_normal(shape)
    w = generator.standard_normal(shape) * np.sqrt(generator.uniform(0.5, 1.5, shape))
    found = residual_shape(recorded_run(y, 0.1 * y + 0.2 * w), "epsilon_injected")
    assert 0.92 <= coverage(found, "skewness", 0.0) <= 0.98
    assert 0.92 <= coverage(found, "excess_kurtosis", 0.25) <= 0.98


def test_residual_shape__verdicts_follow_from_interval_and_margin() -> None:
    y, w, generator = images(4, steps=3)
    w[1] = generator.laplace(size=w[1].shape) / np.sqrt(2)
    w[2] = generator.exponential(size=w[2].shape) - 1
    found = residual_shape(run_of(y, w), "epsilon_injected")
    assert word(found.skewness_verdict).tolist() == ["holds", "holds", "violated"]
    assert word(found.excess_kurtosis_verdict).tolist() == ["holds", "violated", "violated"]
    wide = residual_shape(run_of(y, w), "epsilon_injected", kurtosis=float(found.excess_kurtosis[1]))
    assert word(wide.excess_kurtosis_verdict)[1] == "inconclusive"
    np.testing.assert_array_equal(equivalence([np.nan, -1, -0.1], [np.nan, 1, 0.1], 0.5), [0, 0, 1])


def test_check_normality__one_element_per_sample_rejects_normal_noise_at_the_level_and_laplace_more_with_size() -> None:
    # Samples of strongly correlated pixels: the test on all pixels rejects most of them, one per sample 1 %.
    # 300 steps of independent noise, each one p-value: 1 % has standard error 0.57 %.
    generator = np.random.default_rng(5)
    shape = (300, 64, 1, 4, 4)
    y = generator.standard_normal(shape)
    w = generator.standard_normal(shape) * 0.3 + generator.standard_normal((*shape[:3], 1, 1))
    found = check_normality(run_of(y, w))
    assert float((found.p_value < 0.01).mean()) <= 0.01 + 4 * 0.0057
    assert float((found.p_value_elements < 0.01).mean()) > 0.2
    assert float((found.p_value_effective < 0.01).mean()) < 0.06
    assert (found.effective_size_kurtosis < 3 * 64).all()
    y, _, generator = images(6, steps=3, samples=256)
    tails = check_normality(run_of(y, generator.laplace(size=y.shape)))
    mean = tails.rejected_share.mean("step")
    assert tails["size"].values.tolist() == [20, 32, 64, 128, 256]
    assert (np.diff(mean) > 0).all()
    assert mean[0] < 0.35 < 0.85 < mean[-1]
    with pytest.raises(BadInput, match="at least 20 samples kept whole"):
        check_normality(run_of(*images(7)[:2], kept=19))


@pytest.mark.parametrize(("samples", "channels"), [(8, 1), (20, 3)])
def test_effective_size__of_few_samples_counts_no_correlation_that_is_only_estimated(samples, channels) -> None:
    white = np.random.default_rng(0).standard_normal((50, samples, channels, 8, 8))
    # standard deviation of one step 6 % at 8 samples, hence of their mean 0.8 %; cut at 1 from one side
    assert effective_size(white, 2).mean() == pytest.approx(samples * 64, rel=0.04)


def test_effective_size__of_independent_and_of_equal_pixels() -> None:
    _, w, generator = images(8, samples=256)
    assert effective_size(w, 2) == pytest.approx(256 * 64, rel=0.03)
    same = np.broadcast_to(generator.standard_normal((2, 500, 1, 1, 1)), (2, 500, 1, 8, 8))
    assert effective_size(same, 3) == pytest.approx(500, rel=1e-6)


# Whiteness


def moving_average(w: np.ndarray) -> np.ndarray:
    """(w + right neighbour) / sqrt 2 on a torus: correlation 1/2 one column apart, none elsewhere."""
    return (w + np.roll(w, 1, -1)) / np.sqrt(2)


def test_check_whiteness__finds_the_planted_correlation_and_its_spectrum() -> None:
    y, w, _ = images(9, samples=256, channels=2)
    w[1] = moving_average(w[1])
    found = check_whiteness(run_of(y, w))
    rho = found.autocorrelation.sel(lag_row=0)
    # 256 samples x 56 pairs: standard error 0.008.
    np.testing.assert_allclose(rho[1].sel(lag_column=[-1, 1]), 0.5, atol=0.04)
    np.testing.assert_allclose(rho[[0, 2, 3]].drop_sel(lag_column=0), 0, atol=0.04)
    np.testing.assert_allclose(rho.sel(lag_column=0), 1)
    assert word(found.neighbour_correlation_verdict).tolist() == ["holds", "violated", "holds", "holds"]
    expected = 1 + np.cos(2 * np.pi * found.frequency_column)  # of (1 + z) / sqrt 2, sampled at these frequencies
    for channel in (0, 1):
        np.testing.assert_allclose(found.spectrum[1, channel].mean("frequency_row"), expected, atol=0.1)
    np.testing.assert_allclose(found.spectrum[0].mean(), 1, rtol=1e-6)
    np.testing.assert_allclose(found.radial_spectrum[0], 1, atol=0.2)
    assert found.radial_spectrum[1, 0] > 1.7  # 2 at frequency 0


def test_check_whiteness__tells_one_diagonal_from_the_other() -> None:
    y, w, _ = images(23, samples=256)
    found = check_whiteness(run_of(y, (w + np.roll(w, (1, 1), (-2, -1))) / np.sqrt(2))).autocorrelation.sel(lag_row=1)
    np.testing.assert_allclose(found.sel(lag_column=1), 0.5, atol=0.05)
    np.testing.assert_allclose(found.sel(lag_column=-1), 0, atol=0.05)


def test_check_whiteness__covers_at_its_nominal_rate() -> None:
    y, w, _ = images(10, steps=500, side=4)  # standard error 1 %
    found = check_whiteness(run_of(y, moving_average(w)))
    assert 0.92 <= coverage(found, "neighbour_correlation", 0.25) <= 0.98
    assert 0.92 <= coverage(found.autocorrelation_low.to_dataset(name="rho_low").assign(
        rho_high=found.autocorrelation_high).sel(lag_row=1, lag_column=0), "rho", 0.0) <= 0.98  # fmt: skip
    assert 0.92 <= coverage(found.sel(frequency_row=0, frequency_column=0.25), "spectrum", 1.0) <= 0.98


def test_check_whiteness__of_uneven_variance_is_white() -> None:
    y, w, _ = images(11, samples=256)
    w *= np.linspace(0.2, 2, 8)  # strong at one edge
    assert (word(check_whiteness(run_of(y, w)).neighbour_correlation_verdict) == "holds").all()
    with pytest.raises(BadInput, match="subsample"):
        check_whiteness(run_of(y, w).drop_vars("noise_kept_injected"))


def test_measure_pattern__covers_and_is_told_from_correlation() -> None:
    y, w, generator = images(21, steps=400, side=4)
    pattern = 0.5 * generator.standard_normal((400, 1, 1, 4, 4))
    pattern -= pattern.mean((3, 4), keepdims=True)  # else part of it is bias
    found = measure_pattern(run_of(y, w + pattern))
    power = (pattern**2).mean((1, 2, 3, 4))
    assert 0.92 <= coverage(found, "pattern_share", power / (1 + power)) <= 0.98
    none = measure_pattern(run_of(y, moving_average(w)))
    assert 0.92 <= coverage(none, "pattern_share", 0.0) <= 0.98
    y, w, _ = images(22, samples=256)
    w[1] += np.linspace(-1, 1, 8)
    run = run_of(y, w)
    assert word(measure_pattern(run).pattern_share_verdict).tolist() == ["holds", "violated", "holds", "holds"]
    # A pattern looks like correlation in space, and like power that varies less than chance; its own part removed, not.
    assert word(check_whiteness(run).neighbour_correlation_verdict)[1] == "violated"
    assert word(check_whiteness(run, part="varying").neighbour_correlation_verdict)[1] == "holds"
    np.testing.assert_allclose(check_homogeneity(run).chance_variation, 2 / 64, rtol=0.1)


# Dependence across steps


def test_check_step_independence__finds_the_planted_correlation() -> None:
    y, w, _ = images(12, samples=100)
    w[1] = 3 * (0.6 * w[0] + 0.8 * w[1])
    found = check_step_independence(run_of(y, w))
    assert float(found.step_correlation[0, 1]) == pytest.approx(0.6, abs=0.05)
    verdicts = word(found.step_correlation_verdict)
    assert verdicts[0, 1] == verdicts[1, 0] == "violated"
    assert verdicts[0, 2] == verdicts[2, 3] == "holds"
    np.testing.assert_allclose(np.diagonal(found.step_correlation), 1)
    few = check_step_independence(run_of(y, w, kept=3))
    assert word(few.step_correlation_verdict)[0, 2] == "inconclusive"


def test_check_step_independence__covers_at_its_nominal_rate() -> None:
    y, w, _ = images(13, steps=40, side=2)
    scale = np.exp(0.3 * np.random.default_rng(14).standard_normal((1, 64, 1, 1, 1)))
    w = scale * (0.6 * w[:1] + 0.8 * w)  # samples of unequal power; steps 1 and on correlated by 0.36
    found = check_step_independence(run_of(y, w)).isel(step=slice(1, 20), other_step=slice(20, None))
    # Pairs share their samples' first step; 380 of them are worth fewer: standard error near 2 %.
    assert 0.91 <= coverage(found, "step_correlation", 0.36) <= 0.99


# Homogeneity


def test_check_homogeneity__covers_and_allows_for_chance() -> None:
    # Powers g / mean g times those of chance: squared coefficient of variation (1 + v) (1 + 2 / m) - 1.
    generator = np.random.default_rng(15)
    shape = (600, 64, 1, 16)
    y, w = generator.standard_normal(shape), generator.standard_normal(shape)
    even = check_homogeneity(recorded_run(y, 0.1 * y + 0.2 * w))
    assert 0.92 <= coverage(even, "power_variation", 2 / 16) <= 0.98
    assert 0.92 <= coverage(even, "excess_variation", 0.0) <= 0.98
    assert 0.92 <= coverage(even, "signal_correlation", 0.0) <= 0.98
    spread = generator.uniform(0.5, 1.5, (600, 64, 1, 1))
    uneven = check_homogeneity(recorded_run(y, 0.1 * y + 0.2 * np.sqrt(spread) * w))
    v = 1 / 12
    assert 0.91 <= coverage(uneven, "power_variation", (1 + v) * (1 + 2 / 16) - 1) <= 0.98


def test_check_homogeneity__verdicts_and_what_they_go_with() -> None:
    y, w, generator = images(16, steps=3, samples=256)
    w[1] *= np.exp(0.5 * generator.standard_normal((256, 1, 1, 1)))
    size = np.exp(0.3 * generator.standard_normal((256, 1, 1, 1)))
    y[2], w[2] = y[2] * size, w[2] * size  # noise that follows its signal
    found = check_homogeneity(run_of(y, w))
    assert word(found.excess_variation_verdict).tolist() == ["holds", "violated", "violated"]
    assert found.signal_correlation_low[2] > 0.8
    k, bias = decompose(run_of(y, w)).slope.values, decompose(run_of(y, w)).bias.values
    power = ((0.1 * y[1] + 0.2 * w[1] - k[1] * y[1] - bias[1]) ** 2).mean((1, 2, 3))
    assert float(found.power_variation[1]) == pytest.approx(power.var(ddof=1) / power.mean() ** 2, rel=1e-6)
    assert abs(found.signal_correlation[0]) < 0.3
    with pytest.raises(BadInput, match="at least 8 samples"):
        check_homogeneity(recorded_run(*planted(1, [0.1], [[0.0]], [0.1], samples=7)))
    with pytest.raises(BadInput, match="varies"):
        check_homogeneity(run_of(0 * y, w))


def test_check_homogeneity__of_classes_is_brown_and_forsythes_anova_on_samples() -> None:
    y, w, _ = images(17, steps=3, samples=800)
    groups = np.arange(800) % 4
    w[1] *= np.array([1.0, 1.0, 1.0, 1.4])[groups][:, None, None, None]
    run = run_of(y, w)
    found = check_homogeneity(run, groups=np.array(list("abcd"))[groups])
    k, bias = decompose(run).slope.values, decompose(run).bias.values
    for step in range(3):
        residual = 0.1 * y[step] + 0.2 * w[step] - k[step] * y[step] - bias[step]
        deviation = np.sqrt((residual**2).mean((1, 2, 3)))
        p = stats.f_oneway(*(deviation[groups == g] for g in range(4))).pvalue
        np.testing.assert_allclose(found.class_p_value[step], p, rtol=1e-6)
    assert word(found.class_share_verdict).tolist() == ["holds", "violated", "holds"]
    assert float(found.class_share[1]) > 0.5
    for wrong in (groups[:-1], np.zeros(800), np.arange(800)):
        with pytest.raises(BadInput, match="class of every sample"):
            check_homogeneity(run, groups=wrong)


def test_check_homogeneity__class_share_covers_at_its_nominal_rate() -> None:
    generator = np.random.default_rng(18)
    shape = (400, 128, 1, 8)  # standard error 1.1 %
    y, w = generator.standard_normal(shape), generator.standard_normal(shape)
    groups = np.arange(128) // 64
    found = check_homogeneity(recorded_run(y, 0.1 * y + 0.2 * w), groups=groups)
    assert 0.92 <= coverage(found, "class_share", 0.0) <= 0.99  # the lower end alone can miss: 97.5 %
    # Root mean square of 8 normal elements: mean c = sqrt(2 / 8) G(4.5) / G(4), variance 1 - c^2.
    c = np.sqrt(2 / 8) * special.gamma(4.5) / special.gamma(4)
    loud = np.where(groups == 1, 1.2, 1.0)[:, None, None]
    apart, within = (0.1 * c) ** 2, (1 - c**2) * (1 + 1.44) / 2
    found = check_homogeneity(recorded_run(y, 0.1 * y + 0.2 * loud * w), groups=groups)
    assert 0.92 <= coverage(found, "class_share", apart / (apart + within)) <= 0.98


# Guidance, and all together


def test_compare_guidance__follows_the_weight_on_the_same_samples() -> None:
    y, e = planted(19, [0.1, 0.2], [[0.1], [0.0]], [0.1, 0.2])
    common = {"conditions": {"label": "d"}}
    runs = [
        recorded_run(y, weight * e, guidance=weight, ranges={"seed": 0, "guidance": weight}, **common)
        for weight in (1.0, 2.0, 4.0)
    ]
    found = compare_guidance(runs)
    assert found.slope.dims == ("guidance", "step")
    assert found.guidance.values.tolist() == [1.0, 2.0, 4.0]
    np.testing.assert_allclose(found.slope[2], 4 * found.slope[0], rtol=1e-9)
    np.testing.assert_allclose(found.residual_variance_ratio[1], 4, rtol=1e-9)
    np.testing.assert_allclose(found.sqnr_db[0] - found.sqnr_db[2], 20 * np.log10(4), rtol=1e-9)
    assert (word(found.slope_change_verdict)[1:] == "rises").all()
    np.testing.assert_array_equal(found.slope_change[0], 0)
    with pytest.raises(BadInput, match="two runs"):
        compare_guidance(runs[:1])
    with pytest.raises(BadInput, match="each once"):
        compare_guidance([runs[0], runs[0]])
    with pytest.raises(BadInput, match="whose scheme"):
        compare_guidance(
            [runs[0], recorded_run(y, e, guidance=2.0, scheme="w8a8", ranges={"seed": 0, "guidance": 2.0})]
        )
    with pytest.raises(BadInput, match="one seed"):
        compare_guidance([runs[0], recorded_run(y, e, guidance=2.0, seed=9, ranges={"seed": 0, "guidance": 2.0})])
    guided = {"guidance": 2.0, "ranges": {"seed": 0, "guidance": 2.0}}
    with pytest.raises(BadInput, match="one conditions"):
        compare_guidance([runs[0], recorded_run(y, e, **guided, conditions={"label": "other"})])
    with_null = recorded_run(y, e, **guided, conditions={"label": "d", "null.label": "n"})
    assert compare_guidance([runs[0], with_null]).sizes["guidance"] == 2


def test_check_assumptions__tests_what_the_record_allows() -> None:
    y, w, _ = images(20)
    whole = check_assumptions(run_of(y, w))
    counts = verdict_counts(whole)
    assert counts["symmetric"] == {"inconclusive": 0, "holds": 4, "violated": 0}
    assert sum(counts["independent of other steps"].values()) == 6
    assert "equal power in all classes" not in counts
    part = verdict_counts(check_assumptions(run_of(y, w, kept=8)))
    assert part == {name: part[name] for name in counts}
    bare = check_assumptions(run_of(y, w).drop_vars(["noise_kept_injected", "epsilon_kept"]), groups=np.arange(64) % 2)
    assert "white in space" not in verdict_counts(bare)
    assert "equal power in all classes" in verdict_counts(bare)
    later = check_assumptions(run_of(y, w, kind="accumulated"), "accumulated")
    assert later.attrs["source"] == "epsilon_accumulated"
    with pytest.raises(BadInput, match="kind"):
        check_assumptions(run_of(y, w), "local")
