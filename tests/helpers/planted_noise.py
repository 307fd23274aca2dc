"""Runs of known noise: y and e are made here, and recorded and labelled by the simulator's own code."""

from itertools import pairwise

import numpy as np
import torch
import xarray as xr

from samplers import DDIM, NoiseSchedule
from simulator.decoded import DecodedRecord
from simulator.instrument.machines.machine import Emulated
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts
from simulator.kept import KeptRecord
from simulator.moments import BLOCKS, moment_names, row_moments
from simulator.provenance import canonical
from simulator.record import ChannelRecord, SiteRecord, central_moments
from simulator.variables import BY_NAME

LATENT = NoiseSchedule("scaled_linear", 1000, 0.0015, 0.0195)
SAMPLER = DDIM(LATENT, 50, eta=1.0, steps_offset=1)

CONFIG = {
    "model": "toy@1",
    "weights_digest": "0" * 64,
    "scheme": "w4a4",
    "ranges": {"observer": "min-max", "seed": 0, "samples": 64},
    "correction": {"name": "none"},
    "target": "int32-float32",
    "numerics_version": 1,
    "threads": 1,
    "sampler": SAMPLER.config(),
    "state": "Float64State",
    "samples": 64,
    "seed": 0,
    "purpose": "calibrate",
    "batch_size": 64,
}


def recorded_run(y: np.ndarray, e: np.ndarray, batches: list[int] | None = None, **config) -> xr.Dataset:
    """Dataset of injected noise ``e`` on ``y``, both (step, sample, channel, element), seen in ``batches``."""
    steps, samples, channels, _ = y.shape
    record = ChannelRecord(steps, samples, channels)
    bounds = np.cumsum([0, *(batches or [samples])])
    assert bounds[-1] == samples
    for step in range(steps):
        for first, last in pairwise(bounds):
            signal, noisy = (torch.from_numpy(v[step, first:last].copy()) for v in (y, y + e))
            record.add(step, np.arange(first, last), signal, noisy)
    arrays = {
        "epsilon_injected": record.blocks(),
        "epsilon_sample_injected": record.samples(),
        "epsilon_count": record.count(),
        "timestep": np.arange(steps)[::-1].copy(),
    }
    return _labelled(arrays, {**CONFIG, "samples": samples, **config})


def recorded_images(
    y: np.ndarray, e: np.ndarray, kept: int | None = None, kind: str = "injected", **config
) -> xr.Dataset:
    """As :func:`recorded_run` for images, both (step, sample, channel, row, column), with the first ``kept`` whole."""
    flat = (*y.shape[:3], -1)
    run = recorded_run(y.reshape(flat), e.reshape(flat), **config)
    run = run.rename({name: name.replace("injected", kind) for name in run.data_vars if "injected" in name})
    kept = y.shape[1] if kept is None else kept
    record = KeptRecord((kind,), len(y), kept, y.shape[2:])
    for step in range(len(y)):
        signal, noisy = (torch.from_numpy(v[step].copy()) for v in (y, y + e))
        record.add(kind, step, np.arange(y.shape[1]), signal, noisy)
    return run.merge(_labelled(record.arrays(), {}).drop_vars("moment"), combine_attrs="override")


def recorded_one_sample_per_block(y: np.ndarray, e: np.ndarray) -> xr.Dataset:
    """As :func:`recorded_run` for at most 64 samples of one channel, thousands of steps at once."""
    steps, samples, channels, elements = y.shape
    assert samples <= BLOCKS
    assert channels == 1
    rows = row_moments(y.reshape(-1, elements), (y + e).reshape(-1, elements))
    arrays = {
        "epsilon_injected": central_moments(rows).reshape(steps, 1, samples, -1),
        "epsilon_count": np.full((1, samples), elements),
    }
    return _labelled(arrays, CONFIG)


def recorded_sites(y: np.ndarray, e: np.ndarray) -> xr.Dataset:
    """Dataset of injected noise of sites, both float32 (step, sample, site, element)."""
    steps, samples, sites, _ = y.shape
    keys = [SiteKey(f"layer{i}", "linear", 0) for i in range(sites)]
    facts = tuple(SiteFacts(key, ("input",), (1, 1), macs=1, edge=False, operands=1, batched=True) for key in keys)
    record = SiteRecord(steps, samples, facts)
    for step in range(steps):
        for i, site in enumerate(facts):
            signal, noisy = (torch.from_numpy(v[step, :, i].copy()) for v in (y, y + e))
            record.add(step, np.arange(samples), site.key, signal, Emulated(noisy))
    return _labelled({"site_injected": record.blocks(), "site_count": record.count()}, CONFIG)


def recorded_decoded(y: np.ndarray, e: np.ndarray, batches: list[int] | None = None) -> xr.Dataset:
    """Dataset of noise ``e`` on decoded pixels ``y``, both (sample, channel, row, column), seen in ``batches``."""
    record = DecodedRecord(len(y))
    for first, last in pairwise(np.cumsum([0, *(batches or [len(y)])])):
        record.add(np.arange(first, last), *(torch.from_numpy(v[first:last].copy()) for v in (y, y + e)))
    return _labelled(record.arrays(), CONFIG)


def _labelled(arrays: dict[str, np.ndarray], config: dict) -> xr.Dataset:
    data = {name: (BY_NAME[name].dims, array, BY_NAME[name].attrs) for name, array in arrays.items()}
    return xr.Dataset(data, {"moment": list(moment_names())}, {"config": canonical(config)})


def planted(
    seed: int, k, bias, sigma, samples: int = 256, elements: int = 64, mean: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """y ~ N(mean, 1) and e = k y + bias + sigma w, for k and sigma (step,) and bias (step, channel)."""
    k, bias, sigma = np.asarray(k, float), np.asarray(bias, float), np.asarray(sigma, float)
    generator = np.random.default_rng(seed)
    shape = (len(k), samples, bias.shape[1], elements)
    y = mean + generator.standard_normal(shape)
    w = generator.standard_normal(shape)
    at = (slice(None), None, None, None)
    return y, k[at] * y + bias[:, None, :, None] + sigma[at] * w
