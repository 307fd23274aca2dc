"""Where two arithmetics of one network disagree: outputs and codes site by site, step by step, on the same x_t.

One is the scheme as its machine computes it, the other for instance its fake quantization
(``QuantizedModel(..., rung=Rung.FAKE_QUANT)``). Both networks see the full-precision trajectory's x_t, so what is found
at a step is the disagreement of that step's pass, and not of trajectories that have parted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from samplers.errors import BadInput
from samplers.loop import sample
from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from samplers.validation import require_int
from simulator.instrument import emulation
from simulator.instrument.calibrated import calibrated
from simulator.instrument.contractions import Contraction, Conv, ConvTranspose
from simulator.instrument.forward import forward
from simulator.instrument.intermediates import rounded, rounding
from simulator.instrument.machines.channel_groups import grouped_axes
from simulator.instrument.machines.log_products import quantizer_of
from simulator.instrument.machines.operands import quantized
from simulator.instrument.operand_groups import calibrated_groups
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme.settings import ActivationRange
from simulator.instrument.sites import SiteKey, watching

VARIABLES = {
    "difference_power": "mean square of (other output - reference output)",
    "noise_power": "mean square of (reference output - float output): the quantization noise itself",
    "flipped": "run-time operand elements with a static range whose codes differ, over all samples",
    "operands": "run-time operand elements with a static range, over all samples",
}
"""Definitions of what :func:`disagreement` returns."""


def disagreement(
    reference: QuantizedModel,
    other: QuantizedModel,
    sampler: Sampler,
    *,
    samples: int = 16,
    seed: int = 0,
    purpose: str = "evaluate",
) -> xr.Dataset:
    """Compare two networks of one model and scheme at every site and step, all sites before it computed alike.

    Args:
        reference: whose distance from full precision counts as the quantization noise.
        other: the network compared with it.
        sampler: whose full-precision trajectory gives x_t.
        samples: number of samples, all in one batch.
        seed: of the noise stream.
        purpose: of the noise stream.

    Returns:
        Variables of ``VARIABLES`` over (step, site), ``timestep`` over step. Operands with dynamic ranges have no
        codes in common and are not counted.

    Raises:
        BadInput: networks of different models, schemes or ranges, no samples.
    """
    require_int("samples", samples, 1)
    same = (
        reference.model is other.model,
        reference.scheme == other.scheme,
        reference.ranges is other.ranges,
        reference.allow_float == other.allow_float,
    )
    if not all(same):
        raise BadInput(
            "codes are compared between networks of one model, scheme and ranges",
            got=f"{reference.model.name} {reference.scheme} and {other.model.name} {other.scheme}",
            fix="build both from the same values, with another rung",
        )
    model = reference.model
    rows: list[list[tuple[float, float, int, int]]] = []

    def denoise(x: Tensor, timestep: Tensor) -> Tensor:
        step, exact = len(rows), _Pass(None)
        output = forward(model.module, exact, x, timestep, call=model.call, allow_float=reference.allow_float)
        first, second = (_through(network, x, timestep, step) for network in (reference, other))
        rows.append([_compare(exact, first, second, site) for site in exact.outputs])
        return output

    with watching(model.module):
        sample(denoise, sampler, NoiseStream(seed, purpose), range(samples), model.sample_shape)
    arrays = dict(zip(VARIABLES, np.array(rows).transpose(2, 0, 1), strict=True))
    return xr.Dataset(
        {
            "timestep": ("step", [update.timestep for update in sampler.updates]),
            **{
                name: (("step", "site"), array, {"units": "1", "definition": VARIABLES[name]})
                for name, array in arrays.items()
            },
        },
        {"site": [str(facts.key) for facts in reference.sites], "scheme": reference.scheme.name},
    )


@dataclass
class _Pass:
    """Handler of one pass: keeps every site's output, and its operands' codes in the network's formats."""

    network: QuantizedModel | None
    step: int | None = None
    outputs: dict[SiteKey, Tensor] = field(default_factory=dict)
    codes: dict[SiteKey, list[np.ndarray]] = field(default_factory=dict)

    def __call__(self, site: SiteKey, contraction: Contraction) -> Tensor:
        if self.network is None:
            found = contraction.float()
        else:
            self.codes[site] = self._codes(self.network, site, contraction)
            found = self.network.emulate(site, contraction, self.step).output
        self.outputs[site] = found
        return found

    def _codes(self, network: QuantizedModel, site: SiteKey, contraction: Contraction) -> list[np.ndarray]:
        treatment = network.plan.at(site, self.step)
        parameters = calibrated(treatment, site, network.ranges, self.step)
        facts = next(facts for facts in network.sites if facts.key == site)
        groups = calibrated_groups(treatment, facts, network.ranges, self.step)
        image = isinstance(contraction, Conv | ConvTranspose)
        found = []
        for role, tensor in contraction.activations().items():
            operand, values = treatment.operands.get(role), emulation.array(tensor)
            if operand is None or operand.range is not ActivationRange.STATIC:
                continue
            if operand.logarithmic:
                found.append(quantizer_of(operand, parameters[role]).quantize(values).codes)
                continue
            channels = grouped_axes(groups, role, values.ndim, image=image)
            found.append(quantized(values, operand, parameters.get(role), (), channels).codes)
        return found


def _through(network: QuantizedModel, x: Tensor, timestep: Tensor, step: int) -> _Pass:
    """One pass of a network; full precision was audited on this very timestep."""
    kept, model, form = _Pass(network, step), network.model, network.float_format
    with rounding(form):
        forward(
            model.module, kept, rounded(x, form), timestep, call=model.call, audit=False,
            allow_float=network.allow_float,
        )  # fmt: skip
    return kept


def _compare(exact: _Pass, first: _Pass, second: _Pass, site: SiteKey) -> tuple[float, float, int, int]:
    y, kept, other = (each.outputs[site].double() for each in (exact, first, second))
    pairs = list(zip(first.codes[site], second.codes[site], strict=True))
    flipped = sum(int(np.count_nonzero(a != b)) for a, b in pairs)
    return (
        float(torch.mean((other - kept) ** 2)),
        float(torch.mean((kept - y) ** 2)),
        flipped,
        sum(a.size for a, _ in pairs),
    )
