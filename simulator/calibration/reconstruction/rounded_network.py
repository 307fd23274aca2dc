"""A network whose weights and activations are rounded in torch float, with gradients: the surrogate of the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from samplers.errors import BadInput
from simulator.arithmetic.granularity import PerAxis
from simulator.arithmetic.quantizer import parameters_from_range
from simulator.arithmetic.rounding import Rounding
from simulator.arithmetic.rules import DIVIDE
from simulator.calibration.reconstruction.grid import WeightGrid
from simulator.calibration.reconstruction.scales import StepScale
from simulator.calibration.rounding_gradient import fake_quantize
from simulator.instrument.contractions import Contraction, Conv, ConvTranspose, MatMul
from simulator.instrument.scheme.settings import ActivationRange
from simulator.instrument.sites import SiteKey
from simulator.instrument.storage import Stored
from simulator.instrument.treatment import Operand, Treatment

Keep = Callable[[Tensor], Tensor]
"""Which elements of an activation stay in float: a mask (bool) of its shape."""


@dataclass(eq=False)
class RoundedNetwork:
    """What each site gets, as far as it is decided.

    Attributes:
        treatments: of every site.
        stored: where each site's weight lies.
        grids: of each weight that is rounded.
        values: real values of the weights decided so far, in their own layout.
        scales: of each activation with a static range.
    """

    treatments: Mapping[SiteKey, Treatment]
    stored: Mapping[SiteKey, Stored]
    grids: Mapping[Stored, WeightGrid]
    scales: Mapping[tuple[SiteKey, str], StepScale]
    values: dict[Stored, Tensor] = field(default_factory=dict)

    def rounded(
        self,
        site: SiteKey,
        contraction: Contraction,
        *,
        soft: Mapping[Stored, Tensor] | None = None,
        activations: bool,
        step: Tensor | None = None,
        rows: int = 1,
        keep: Keep | None = None,
    ) -> Contraction:
        """The contraction with its operands rounded.

        Args:
            site: where.
            contraction: of float operands.
            soft: values of weights that are being decided; other undecided weights stay in float.
            activations: whether run-time operands are rounded.
            step: loop index of each row of the batch.
            rows: of the batch.
            keep: which elements of an activation are not rounded after all.
        """
        treatment = self.treatments[site]
        if treatment.in_float:
            return contraction
        operands = contraction.activations()
        if activations:
            for role, x in operands.items():
                rounded = self._operand(site, role, x, contraction, step, rows)
                operands[role] = rounded if keep is None else torch.where(keep(x), x, rounded)
        if isinstance(contraction, MatMul):
            left, right = operands.values()
            return replace(contraction, left=left, right=right)
        weight, stored = contraction.weight, self.stored.get(site)
        if stored is not None:
            weight = self.values.get(stored, weight)
            if soft is not None:
                weight = soft.get(stored, weight)
        return replace(contraction, input=operands["input"], weight=weight)

    def _operand(
        self, site: SiteKey, role: str, x: Tensor, contraction: Contraction, step: Tensor | None, rows: int
    ) -> Tensor:
        operand = self.treatments[site].operands[role]
        code = operand.spec.format
        if operand.range is ActivationRange.STATIC:
            scale, zero = (_along(p, x, rows, site) for p in self.scales[site, role](step))
        else:
            image = isinstance(contraction, Conv | ConvTranspose)
            scale, zero = _from_data(x, operand, image)
        return fake_quantize(x, scale, zero, code.qmin, code.qmax)


def _along(parameter: Tensor, x: Tensor, rows: int, site: SiteKey) -> Tensor:
    """A parameter (n,) laid along an operand whose first axis holds the samples, each with as many rows."""
    if not parameter.ndim:
        return parameter
    if len(parameter) != rows or x.ndim == 0 or len(x) % rows:
        raise BadInput(
            "an operand with a scale per step must have its samples on the first axis",
            got=f"{tuple(x.shape)} for {rows} samples at {site}", fix="give it one scale for all steps",
        )  # fmt: skip
    return parameter.repeat_interleave(len(x) // rows).reshape(-1, *(1,) * (x.ndim - 1))


def _from_data(x: Tensor, operand: Operand, image: bool) -> tuple[Tensor, Tensor]:
    """Parameters of a dynamic range, per tensor or per row as the engine takes them; no gradient flows into them."""
    values, spec = x.detach().numpy(), operand.spec
    if operand.range is ActivationRange.ROW:
        spec = replace(spec, granularity=PerAxis((0,) if image else tuple(range(x.ndim - 1))))
    low, high = (spec.granularity.reduce(values, ufunc) for ufunc in (np.minimum, np.maximum))
    scale, zero = parameters_from_range(low, high, spec)
    return torch.from_numpy(scale), torch.from_numpy(zero.astype(np.float32))


def require_surrogate(site: SiteKey, treatment: Treatment) -> None:
    """Raise BadInput unless the float surrogate gives this treatment's codes."""
    if treatment.in_float:
        return
    if treatment.block is not None:
        raise BadInput("reconstruction rounds integers", got=f"{treatment.block} at {site}", fix="use integer codes")
    for role, operand in treatment.operands.items():
        if operand.spec.rule != DIVIDE or operand.spec.rounding is not Rounding.HALF_EVEN:
            raise BadInput(
                "reconstruction rounds activations by the default rule, half to even",
                got=f"{operand.spec.rounding.name} by {operand.spec.rule} at {site} {role}",
                fix="drop the target or the rounding from the scheme",
            )
