"""Claim: balancing makes activations' and weights' maxima equal, and leaves the network's float function as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from same_function import TOLERANCE, error, perturbed, small_dit, small_unet
from scipy.stats import spearmanr

from samplers import DDIM, BadInput
from simulator import Conditioning, PerChannel, QuantizedModel, Scheme, StepSets, calibrate_ranges, load, survey
from simulator.calibration.balancing.balance import Placement, balance
from simulator.calibration.balancing.families import graph_of
from simulator.calibration.balancing.folding import fold
from simulator.calibration.balancing.graph import AffineNorm, Graph, Input, Outputs
from simulator.calibration.balancing.rules import OverPoints, SalienceBalancing, SmoothQuant
from simulator.calibration.balancing.salience import Salience, collect_salience, salience_of
from simulator.calibration.balancing.weighting import spearman, spearman_weights
from simulator.calibration.transforms.equivalence import largest_change
from simulator.instrument.accounting import account
from simulator.instrument.plan import Plan
from simulator.models.derived import derive

pytestmark = pytest.mark.usefixtures("one_thread")


def sampler(model, steps: int = 3) -> DDIM:
    return DDIM(model.schedule, steps, 0.0)


@pytest.fixture(scope="module")
def dit():
    model = small_dit()
    return model, collect_salience(model, sampler(model), samples=4)


@pytest.fixture(scope="module")
def unet():
    model = small_unet()
    return model, collect_salience(model, sampler(model), samples=4)


def columns(model, readers) -> np.ndarray:
    """max |W_j| over the readers of one tensor."""
    weights = [model.module.get_submodule(path).weight.transpose(0, 1).flatten(1) for path in readers]
    return torch.cat(weights, dim=1).abs().amax(1).double().numpy()


@pytest.mark.parametrize("placement", list(Placement))
@pytest.mark.parametrize("rule", [SalienceBalancing(), SalienceBalancing(OverPoints.MAXIMUM), SmoothQuant(0.7)])
def test_balance__leaves_the_float_function_of_a_dit(dit, rule, placement) -> None:
    found = balance(*dit, rule, placement=placement)
    assert error(dit[0], found.model) < TOLERANCE
    assert found.model.weights_digest != dit[0].weights_digest
    assert max(f.factor.max() / f.factor.min() for f in found.factors.values()) > 2  # there was something to do


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize("name", ["digits-dit", "digits-unet"])
def test_balance__leaves_the_float_function_of_shipped_models(name, move) -> None:
    model = perturbed(load(name)) if move else load(name)
    salience = collect_salience(model, sampler(model, 2), samples=2)
    rule = SalienceBalancing() if name == "digits-dit" else SmoothQuant()
    assert error(model, balance(model, salience, rule).model) < TOLERANCE


@pytest.mark.parametrize("placement", list(Placement))
def test_balance__makes_both_maxima_the_root_of_their_product(dit, placement) -> None:
    """In the network that runs: s_rho(X') is measured on it, with the weights of the points that were chosen before."""
    model, salience = dit
    found = balance(model, salience, SalienceBalancing(), placement=placement)
    for tensor in graph_of(model).inputs:
        factors = found.factors[tensor.name]
        expected = np.sqrt(factors.activations * factors.weight)
        np.testing.assert_allclose(columns(found.model, tensor.readers), expected, rtol=2e-6)
        np.testing.assert_allclose(factors.activations, factors.points @ salience.of(tensor.readers), rtol=1e-12)
        if placement is Placement.OFFLINE:
            after = collect_salience(found.model, sampler(model), samples=4)
            np.testing.assert_allclose(factors.points @ after.of(tensor.readers), expected, rtol=1e-4)


def test_balance__query_key_and_value_share_the_factor_of_the_largest_weight(dit) -> None:
    found = balance(*dit, SalienceBalancing(), placement=Placement.RUN_TIME)
    readers = tuple(f"blocks.0.attention.{name}" for name in ("query", "key", "value"))
    np.testing.assert_allclose(found.factors[readers[0]].weight, columns(dit[0], readers), rtol=1e-12)
    divisors = [found.model.module.get_submodule(path).before[0].divisor for path in readers]
    assert torch.equal(divisors[0], divisors[1])
    assert torch.equal(divisors[0], divisors[2])
    assert set(readers) < set(found.divided)


def test_smooth_quant__splits_salience_by_its_exponent() -> None:
    x, w = np.array([[4.0, 1.0], [9.0, 0.5]]), np.array([4.0, 2.0])
    np.testing.assert_allclose(SmoothQuant(0.5).factors(x, w).factor, [1.5, np.sqrt(0.5)])
    np.testing.assert_allclose(SmoothQuant(1.0).factors(x, w).factor, [9.0, 1.0])
    np.testing.assert_allclose(SmoothQuant(0.0).factors(x, w).factor, [0.25, 0.5])
    np.testing.assert_allclose(SmoothQuant(0.8).factors(x, w).factor, [9**0.8 / 4**0.2, 2**-0.2])


def test_factors__are_1_where_a_salience_is_0() -> None:
    x, w = np.array([[0.0, 5.0, 2.0, 8.0]]), np.array([3.0, 0.0, 2.0, 2.0])
    for rule in (SalienceBalancing(), SmoothQuant(0.3)):
        assert rule.factors(x, w).factor[:2].tolist() == [1.0, 1.0]
    assert SalienceBalancing().factors(x, w).factor[2:].tolist() == pytest.approx([1.0, 2.0])
    assert SalienceBalancing(guard=0.5).factors(x, w).factor[3] == pytest.approx(np.sqrt(8 / 2.5))


def test_spearman_weights__sum_to_1_and_fall_with_rho() -> None:
    random = np.random.default_rng(0)
    weight = random.normal(size=40) ** 2
    steps = np.stack([np.exp(a * weight + random.normal(size=40)) for a in (-3, -1, 0, 1, 3)])
    rho, found = spearman(steps, weight), spearman_weights(steps, weight)
    np.testing.assert_allclose(rho, [spearmanr(step, weight).statistic for step in steps], rtol=1e-12)
    assert found.sum() == pytest.approx(1, abs=1e-14)
    np.testing.assert_allclose(found[1:] / found[:-1], np.exp(rho[:-1] - rho[1:]), rtol=1e-12)
    assert found.argmax() == 0
    assert found.argmin() == 4  # the step most alike the weights counts least


def test_spearman__with_ties_is_scipys_and_of_constants_is_0() -> None:
    x = np.array([[1.0, 1.0, 2.0, 3.0, 3.0], [4.0] * 5])
    w = np.array([2.0, 1.0, 1.0, 5.0, 5.0])
    assert spearman(x, w)[0] == pytest.approx(spearmanr(x[0], w).statistic)
    assert spearman(x, w)[1] == 0
    np.testing.assert_array_equal(spearman(x, np.ones(5)), [0, 0])


def test_salience__of_rows_joined_is_that_of_steps(dit) -> None:
    model, steps = dit
    rows = collect_salience(model, sampler(model), variant="released")
    assert rows.maxima.keys() == steps.maxima.keys()
    for path, found in rows.maxima.items():
        assert len(found) == 12
        np.testing.assert_array_equal(found.reshape(3, 4, -1).max(1), steps.maxima[path])
    assert rows.source["salience"] == "rows"
    points = SalienceBalancing().factors(rows.of(("blocks.0.mlp.linear1",)), np.arange(1.0, 25)).points
    assert points.shape == (12,)
    assert points.sum() == pytest.approx(1)


def test_salience__of_rows_under_guidance_has_both_passes_of_a_sample(dit) -> None:
    model, _ = dit
    guided = Conditioning({"label": torch.tensor([0, 2])}, weight=1.5)
    rows = collect_salience(model, sampler(model), variant="released", samples=3, batch_size=2, conditioning=guided)
    steps = collect_salience(model, sampler(model), samples=3, conditioning=guided)
    path = "blocks.1.attention.output"
    assert len(rows.maxima[path]) == 3 * 3 * 2
    np.testing.assert_allclose(rows.maxima[path].max(0), steps.maxima[path].max(0), rtol=1e-5)  # other batches
    found = balance(model, rows, SalienceBalancing())
    assert largest_change(model, found.model, conditioning=guided) < TOLERANCE


def test_salience__is_the_largest_magnitude_of_ranges_per_channel(dit) -> None:
    model, salience = dit
    ranges = calibrate_ranges(
        model, sampler(model), samples=64, granularity=PerChannel(), steps=StepSets.named({"2": (2,)})
    )
    assert ranges.source["samples"] == 64
    found = salience_of(ranges)
    low, high = next(b for (site, role, _), b in ranges.bounds.items() if site.module == "blocks.1.mlp.linear1")
    np.testing.assert_array_equal(found.maxima["blocks.1.mlp.linear1"][0], np.maximum(-low, high).ravel())
    chosen = collect_salience(model, sampler(model), samples=64, steps=(2,))
    np.testing.assert_array_equal(chosen.maxima["blocks.1.mlp.linear1"], found.maxima["blocks.1.mlp.linear1"])
    assert not np.array_equal(salience.maxima["blocks.1.mlp.linear1"][2:], found.maxima["blocks.1.mlp.linear1"])


def cost(model):
    return account(Plan(Scheme.parse("w4a8"), survey(model)), model.module)


def test_balance__costs_nothing_when_folded_and_no_product_sums_when_divided(dit) -> None:
    model, _ = dit
    plain = cost(model)
    folded, divided = (balance(*dit, SalienceBalancing(), placement=p).model for p in Placement)
    assert cost(folded).passes == plain.passes  # names, shapes, multiply-accumulates, bits
    assert cost(folded).weights == plain.weights
    assert type(folded.module.blocks[0].mlp.linear1) is torch.nn.Linear
    assert cost(divided).passes == plain.passes


def test_balance__undoes_channels_that_were_made_salient(dit) -> None:
    """An exact fold makes some channels 50 times as wide; balancing takes them back and 8 bits are enough again."""
    model, _ = dit
    wide = np.where(np.arange(24) % 6 == 0, 50.0, 1.0)

    def plant(module) -> None:
        for tensor in graph_of(model).inputs:
            fold(module, tensor, 1 / wide)

    salient = derive(model, plant, "salient")
    assert error(model, salient) < TOLERANCE
    salience = collect_salience(salient, sampler(model), samples=4)
    balanced = balance(salient, salience, SalienceBalancing())

    def spread(network) -> float:
        found = collect_salience(network, sampler(model), samples=4).of(("blocks.0.attention.query",)).max(0)
        return found.max() / np.median(found)

    assert spread(salient) > 10 * spread(balanced.model)

    def noise(network) -> float:
        quantized = QuantizedModel(network, Scheme.parse("w8a8"), calibrate_ranges(network, sampler(model), samples=4))
        x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(5))
        t = torch.full((4,), 500)
        exact = model.module(x, t)
        return float((quantized(x, t) - exact).square().mean() / exact.square().mean())

    before, after = noise(salient), noise(balanced.model)
    assert before > 5 * noise(model)
    assert after < 1.5 * noise(model)


def test_balance__of_a_unet_folds_what_it_can_and_divides_where_asked(unet) -> None:
    model, salience = unet
    small = balance(model, salience, SmoothQuant())
    assert set(small.factors) == {"mid.attention.output", "mid.attention.query", "upsample"}
    assert small.divided == ()
    with pytest.raises(BadInput, match="must name layers of the network"):
        balance(model, salience, SmoothQuant(), graph=graph_of(model).with_division("up.2.conv1"))
    graph = graph_of(model).with_division("up.1.conv1", "down.0.conv2", "downsample")
    found = balance(model, salience, SmoothQuant(), graph=graph)
    assert found.divided == ("up.1.conv1", "down.0.conv2", "downsample")
    assert error(model, found.model) < TOLERANCE
    again = balance(
        found.model, collect_salience(found.model, sampler(model), samples=4), SmoothQuant(1.0), graph=graph
    )
    assert error(model, again.model) < TOLERANCE
    assert cost(again.model).passes == cost(model).passes


def test_balance__needs_a_network_with_adaptive_norms(unet, dit, tiny_model) -> None:
    with pytest.raises(BadInput, match="needs a network with adaLN"):
        balance(*unet, SalienceBalancing())
    assert error(unet[0], balance(*unet, SalienceBalancing(needs_adaptive_norm=False)).model) < TOLERANCE
    with pytest.raises(BadInput, match="what precedes each layer"):
        balance(tiny_model, Salience({}, {}), SmoothQuant())
    with pytest.raises(BadInput, match="salience must be that of the model"):
        balance(dit[0], unet[1], SmoothQuant())


def test_balance__takes_a_graph_of_the_users_own(tiny_model) -> None:
    graph = Graph((Input(("qkv",), AffineNorm("norm")),)).with_division("last", "embed.2")
    salience = collect_salience(tiny_model, sampler(tiny_model), samples=4)
    with pytest.raises(BadInput, match="needs a network with adaLN"):
        balance(tiny_model, salience, SalienceBalancing(), graph=graph)
    # the norm's output is also what the attention is added to
    wrong = balance(tiny_model, salience, SmoothQuant(), graph=graph)
    assert largest_change(tiny_model, wrong.model) == pytest.approx(error(tiny_model, wrong.model), rel=2)
    assert error(tiny_model, wrong.model) > 0.01
    right = balance(tiny_model, salience, SmoothQuant(), graph=graph.dividing())
    assert error(tiny_model, right.model) < TOLERANCE
    assert 0 < largest_change(tiny_model, right.model) < TOLERANCE
    assert largest_change(tiny_model, tiny_model) == 0


def test_graph__refuses_what_does_not_fit(dit) -> None:
    model, salience = dit
    linear1 = "blocks.0.mlp.linear1"
    for source, message in (
        (AffineNorm("blocks.0.norm2"), "must hold a factor"),  # a norm without parameters
        (Outputs(("blocks.0.modulation",)), "one number of channels"),
        (Outputs(("label_embedding",)), "linear or convolutions"),
    ):
        with pytest.raises(BadInput, match=message):
            balance(model, salience, SmoothQuant(), graph=Graph((Input((linear1,), source),)))
    with pytest.raises(BadInput, match="each layer reads one"):
        graph_of(model).with_division(linear1)
    with pytest.raises(BadInput, match="salience must be known"):
        balance(model, Salience({}, {}), SmoothQuant())
    for bad in (lambda: SmoothQuant(1.1), lambda: SmoothQuant(over="maximum"), lambda: SalienceBalancing(guard=-1.0)):
        with pytest.raises(BadInput):
            bad()
    with pytest.raises(BadInput, match="'paper' or 'released'"):
        collect_salience(model, sampler(model), variant="code")
    for variant in ("paper", "released"):
        with pytest.raises(BadInput, match="steps must lie in"):
            collect_salience(model, sampler(model), variant=variant, steps=(1, 3))
    assert len(collect_salience(model, sampler(model), variant="released", steps=(1,)).maxima["head.linear"]) == 4
    with pytest.raises(BadInput, match="ranges per channel"):
        salience_of(calibrate_ranges(model, sampler(model), samples=2))
