"""The transformer runs in exact integers as the UNet does: every contraction is a site, a paired run covers them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import simulator
from noise_models import sqnr_db
from samplers.ddim import DDIM
from simulator.instrument.survey import survey


@pytest.fixture(scope="module")
def model(one_thread):
    return simulator.load("digits-dit@1")


def test_survey__finds_every_weight_and_takes_the_patches_and_the_output_for_edges(model):
    facts = survey(model)
    weighted = [f for f in facts if f.weight_shape is not None]
    # 2 of the time, 7 in each block, the patches, modulation and output of the head; 2 products in each attention
    assert len(weighted) == 2 + 7 * len(model.module.blocks) + 3
    assert len(facts) - len(weighted) == 2 * len(model.module.blocks)
    assert [f.key.module for f in facts if f.edge] == ["patches", "head.linear"]


def test_run__of_the_transformer_is_nearer_to_full_precision_with_more_bits(model):
    sampler = DDIM(model.schedule, 5, eta=0.0)
    ranges = simulator.calibrate_ranges(model, sampler, samples=16)
    arms = [simulator.Arm(simulator.QuantizedModel(model, simulator.Scheme.parse(s), ranges)) for s in ("w8a8", "w4a4")]
    fine, coarse = simulator.run_arms(arms, sampler, samples=8)
    levels = [np.median(sqnr_db(run, "epsilon_injected").sqnr_db) for run in (fine, coarse)]
    assert levels[0] > 25.0 > levels[1] + 5.0


def test_quantized__transformer_predicts_without_a_label(model):
    sampler = DDIM(model.schedule, 5, eta=0.0)
    network = simulator.QuantizedModel(
        model, simulator.Scheme.parse("w8a8"), simulator.calibrate_ranges(model, sampler, samples=16)
    )
    x, timestep = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.full((4,), 500)
    quantized = network(x, timestep)
    without = (quantized - model.module(x, timestep)).square().mean()
    for label in range(10):
        given = (quantized - model.module(x, timestep, torch.full((4,), label))).square().mean()
        assert without < given / 2
