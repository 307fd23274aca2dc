"""What theory needs of a network's operands: their power, their steps and their errors, on the float trajectory.

One pass in full precision; the scheme's integer contractions never run, so nothing here is a measurement of a site's
noise. Beside what follows from ranges and bits alone (gains of steps and of clipping), it keeps two facts that tell why
such a prediction fails: the operands' true error power, and how much of an error is a straight line of the operand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from samplers.coefficients import timestep_array
from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from samplers.state import FLOAT64
from samplers.validation import require_int
from simulator.arithmetic.float_formats import FLOAT32
from simulator.arithmetic.rounding import Rounding
from simulator.correction import NoCorrection
from simulator.instrument.calibrated import calibrated
from simulator.instrument.contractions import Contraction, MatMul
from simulator.instrument.operand_groups import calibrated_groups
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.sites import SiteKey, watching
from simulator.instrument.treatment import Treatment
from simulator.models.conditioning import call_for
from simulator.operand_variables import COVERED, OPERANDS
from simulator.provenance import canonical, environment, run_config, run_key
from simulator.reference import full_precision
from simulator.rounded_operands import Rounded, operands, product

NEAREST = (Rounding.HALF_EVEN, Rounding.HALF_AWAY, Rounding.HALF_UP, Rounding.HALF_DOWN)
"""Others err by up to a whole step: not the theory's +-step / 2."""

PURPOSE = "observe"
"""Purpose of the noise stream: other samples than those that fit ranges, and than those that judge predictions."""


@torch.no_grad()
def observe_operands(
    quantized: QuantizedModel,
    sampler: Sampler,
    *,
    samples: int = 64,
    seed: int = 0,
    purpose: str = PURPOSE,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Operand statistics of every site at every step of the full-precision trajectory.

    Args:
        quantized: says how each site's operands are rounded.
        sampler: the sampler.
        samples: number of samples.
        seed: of the noise stream.
        purpose: of the noise stream; not that of the samples on which predictions are judged.
        batch_size: samples per forward pass.
        progress: called after each step with (steps done, steps in all).

    Returns:
        The variables of ``simulator.operand_variables``, means over samples. Sites that stay in float, or whose
        arithmetic does more than round operands to nearest (block formats, targets, requantized outputs, limited
        registers, narrow intermediate formats, directed rounding), are NaN, and ``site_covered`` says which.

    Raises:
        BadInput: sizes below 1, or ranges that do not fit the scheme.
    """
    require_int("samples", samples, 1)
    require_int("batch_size", batch_size, 1)
    found = _Observed(quantized, len(sampler.updates))
    batches = range(0, samples, batch_size)
    model, noise = quantized.model, NoiseStream(seed, purpose)
    with watching(model.module):
        for done, first in enumerate(batches):
            members = np.arange(first, min(first + batch_size, samples))
            call = call_for(model, quantized.conditioning, members)
            look = found.look(len(members) / samples)
            for point in full_precision(
                model, quantized.allow_float, sampler, FLOAT64, noise, members, call, look
            ):  # one step's outputs at a time
                if progress is not None:
                    progress(done * len(sampler.updates) + point.step + 1, len(batches) * len(sampler.updates))
    settings = {
        "observation": "operands", "sampler": sampler.config(), "samples": samples, "seed": seed, "purpose": purpose,
        "batch_size": batch_size,
    }  # fmt: skip
    config = run_config(quantized, NoCorrection(), quantized.conditioning, **settings)
    return found.dataset(config, sampler)


class _Observed:
    """Means under way."""

    def __init__(self, quantized: QuantizedModel, steps: int) -> None:
        self._quantized = quantized
        self._index = {facts.key: index for index, facts in enumerate(quantized.sites)}
        sizes = {"step": steps, "site": len(quantized.sites), "operand": 2}
        self._means = {v.name: np.zeros([sizes[dim] for dim in v.dims]) for v in OPERANDS}

    def look(self, share: float) -> Callable[[int, SiteKey, Contraction, Tensor], None]:
        """Adds a batch that is this share of all samples."""

        def add(step: int, site: SiteKey, contraction: Contraction, output: Tensor) -> None:
            at = step, self._index[site]
            treatment = self._quantized.treatment(site, step)
            covered = _covered(treatment, self._quantized)
            self._means["site_covered"][at] = covered
            self._means["site_signal_power"][at] += share * _power(output)
            if covered:
                for variable in OPERANDS[1:-1]:
                    self._means[variable.name][at] = np.nan
                return
            parameters = calibrated(treatment, site, self._quantized.ranges, step)
            facts = self._quantized.sites[self._index[site]]
            groups = calibrated_groups(treatment, facts, self._quantized.ranges, step)
            left, right = operands(contraction, treatment, parameters, groups)
            self._means["operand_intervals"][at] = left.intervals, right.intervals
            for name, value in _statistics(contraction, left, right).items():
                self._means[name][at] += share * np.asarray(value)

        return add

    def dataset(self, config: dict[str, Any], sampler: Sampler) -> xr.Dataset:
        """What was observed, labelled."""
        data: dict[str, Any] = {v.name: (v.dims, self._means[v.name], v.attrs) for v in OPERANDS}
        dims, codes, attrs = data["site_covered"]
        flags = {"flag_values": np.arange(len(COVERED), dtype=np.int8), "flag_meanings": " ".join(COVERED)}
        data["site_covered"] = (dims, codes.astype(np.int8), {**attrs, **flags})
        coords = {
            "timestep": ("step", timestep_array(sampler.updates)),
            "site": [str(facts.key) for facts in self._quantized.sites],
            "operand": ["left", "right"],
            "site_roles": ("site", [_roles(facts.roles) for facts in self._quantized.sites]),
            "model": config["model"], "scheme": config["scheme"], "target": config["target"],
            "sampler": sampler.name, "seed": config["seed"],
        }  # fmt: skip
        attrs = {"config": canonical(config), "key": run_key(config), **environment()}
        return xr.Dataset(data, coords=coords, attrs=attrs)


def _covered(treatment: Treatment, quantized: QuantizedModel) -> int:
    if treatment.in_float:
        return COVERED.index("in_float")
    more = (
        treatment.logarithmic
        or treatment.block
        or treatment.target
        or treatment.output
        or treatment.limited
        or treatment.regrouped
    )
    specs = [operand.spec for operand in treatment.operands.values()] + [treatment.weight]
    biased = any(spec is not None and spec.rounding not in NEAREST for spec in specs)
    return COVERED.index("other_arithmetic") if more or biased or quantized.float_format != FLOAT32 else 0


def _roles(roles: tuple[str, ...]) -> str:
    return " ".join(roles if len(roles) == 2 else (*roles, "weight"))


def _statistics(contraction: Contraction, left: Rounded, right: Rounded) -> dict[str, float | list[float]]:
    """Variables of one batch, by name."""

    def mean(a: Tensor, b: Tensor) -> float:
        return float(product(contraction, a, b).mean(dtype=torch.float64)) if a.any() and b.any() else 0.0

    def gains(a: Tensor, b: Tensor) -> list[float]:
        """Of quantities of the left and of the right operand."""
        return [mean(a, powers[1]), mean(powers[0], b)]

    both = (left, right)
    powers = [operand.exact.square() for operand in both]
    steps, clips, errors = ([getattr(operand, name).square() for operand in both] for name in ("step", "clip", "error"))
    lines = [_line(operand) for operand in both]
    rests = [(operand.error - line).square() for operand, line in zip(both, lines, strict=True)]
    exact = product(contraction, left.exact, right.exact)
    rest_gains, rest_product = gains(*rests), mean(*rests)
    line_power = _power(product(contraction, left.exact + lines[0], right.exact + lines[1]) - exact)
    drawn = line_power + sum(rest_gains) + rest_product
    if not isinstance(contraction, MatMul):
        moved = product(contraction, left.exact + lines[0], right.exact + right.error) - exact
        drawn = _power(moved) + rest_gains[0] + mean(rests[0], errors[1])
    return {
        "operand_step_gain": gains(*steps),
        "operand_clip_gain": gains(*clips),
        "operand_error_gain": gains(*errors),
        "operand_rest_gain": rest_gains,
        "site_step_product": mean(*steps),
        "site_error_product": mean(*errors),
        "site_rest_product": rest_product,
        "site_line_power": line_power,
        "site_drawn_noise": drawn,
        "operand_clipped_share": [float((clip > 0).double().mean()) for clip in clips],
    }


def _line(operand: Rounded) -> Tensor:
    """Least-squares line of the error on the operand, at each element; a constant operand's error is its mean."""
    x, e = operand.exact, operand.error
    centred = x - x.mean(dtype=torch.float64)
    variance = _power(centred)
    slope = float((centred * e).mean(dtype=torch.float64)) / variance if variance > 0 else 0.0
    return (e.mean(dtype=torch.float64) + slope * centred).float()


def _power(tensor: Tensor) -> float:
    return float(tensor.square().mean(dtype=torch.float64))
