"""The network that is trained, with the learned quantizers at its sites."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from samplers.errors import BadInput
from simulator.arithmetic.quantizer import parameters_from_range
from simulator.calibration.differentiable import differentiable
from simulator.calibration.rounding_gradient import fake_quantize
from simulator.calibration.training.methods import Control, Method
from simulator.calibration.training.quantizers import ActivationQuantizer, WeightQuantizer
from simulator.calibration.training.sites import treatments
from simulator.instrument.contractions import PROBABILITY, Contraction, MatMul, Weighted
from simulator.instrument.forward import Call, forward, plain_call
from simulator.instrument.scheme.scheme import Scheme
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import survey
from simulator.instrument.treatment import Operand
from simulator.instrument.weight_layout import WeightLayout
from simulator.models.registry import Model

Given = Mapping[str, Tensor]
"""Conditions of a batch, by keyword."""


class Student:
    """A copy of a network, trainable, whose contractions run on the values of their codes.

    Args:
        model: the network; left as it is.
        scheme: bits of every site and role; a control does without.
        method: makes the quantizers; a :class:`Control` has none, and runs as the network does by itself.
        dropout: probability of every dropout layer while training.

    Attributes:
        module: the copy.
        quantizers: all that is learned beside it.
        activations: quantizers by site and role, softmax outputs left out, whose range is known.
        weights: quantizers by site; sites that read one weight share theirs.
        operands: the scheme's operands, by site and role.

    Raises:
        BadInput: a scheme that cannot be learned.
    """

    def __init__(self, model: Model, scheme: Scheme, method: Method | Control, *, dropout: float = 0.0) -> None:
        self._model, self._method, self._dropout = model, method, dropout
        self._call = model.call or plain_call
        self.sites = survey(model)
        self._treatments = {} if isinstance(method, Control) else treatments(scheme, self.sites)
        self._stored: dict[SiteKey, Hashable] = {facts.key: facts.stored or facts.key for facts in self.sites}
        self.module: nn.Module = copy.deepcopy(model.module).eval().requires_grad_(True)
        self.quantizers = nn.ModuleList()
        self.activations: dict[tuple[SiteKey, str], ActivationQuantizer] = {}
        self.weights: dict[SiteKey, WeightQuantizer] = {}
        self.operands: dict[tuple[SiteKey, str], Operand] = {
            (site, role): operand for site, t in self._treatments.items() for role, operand in t.operands.items()
        }
        self._timestep: Tensor
        self._noise: torch.Generator | None = None

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All that is trained, by name, the network's first."""
        found = {f"network.{name}": p for name, p in self.module.named_parameters()}
        return found | {f"quantizers.{name}": p for name, p in self.quantizers.named_parameters()}

    def begin(self, x: Tensor, timestep: Tensor, given: Given, generator: torch.Generator) -> None:
        """Make the quantizers from a full-precision pass on ``x``; every draw from ``generator``."""
        if isinstance(self._method, Control):
            return
        assert self._model.schedule is not None
        method, timesteps, begun = self._method, self._model.schedule.num_train_timesteps, {}

        def observe(site: SiteKey, contraction: Contraction) -> Tensor:
            for role, values in contraction.activations().items():
                if (site, role) in self.operands and role != PROBABILITY:
                    spec = self.operands[site, role].spec
                    made = method.activation(values.detach().numpy(), spec, timesteps, generator)
                    self.activations[site, role] = made
                    self.quantizers.append(made)
            if site in self._treatments and not isinstance(contraction, MatMul):
                if (key := self._stored[site]) not in begun:
                    weight = WeightLayout.of(contraction).outputs_first(contraction.weight)
                    form = self._treatments[site].weight
                    assert form is not None
                    begun[key] = method.weight(np.ascontiguousarray(weight.detach().numpy()), form)
                    self.quantizers.append(begun[key])
                self.weights[site] = begun[key]
                self._require_alike(site)
            return contraction.float()

        forward(self.module, observe, x, timestep, call=self._with(given))

    def _require_alike(self, site: SiteKey) -> None:
        """Sites that read one weight must give it the same codes."""
        spec = self._treatments[site].weight
        if spec != self.weights[site].spec:
            raise BadInput("sites that read one weight must have the same bits", got=str(site), fix="add a rule")

    def predict(self, x: Tensor, timestep: Tensor, given: Given, noise: torch.Generator) -> Tensor:
        """The network's output in training mode, with gradients; ``noise`` is what random quantizers draw from."""
        self._switch(training=True)
        if isinstance(self._method, Control):
            return self._call(self.module, x, timestep, **given)
        self._timestep, self._noise = timestep, noise
        for quantizer in self.activations.values():
            quantizer.draw_from(noise)
        return differentiable(self.module, self._handle, lambda: self._call(self.module, x, timestep, **given))

    @torch.no_grad()
    def judge(self, x: Tensor, timestep: Tensor, given: Given) -> Tensor:
        """The network's output in eval mode, as the engine's codes have it."""
        self._switch(training=False)
        if isinstance(self._method, Control):
            return self._call(self.module, x, timestep, **given)
        self._timestep, self._noise = timestep, None
        return forward(self.module, self._handle, x, timestep, call=self._with(given), audit=False)

    def penalty(self) -> Tensor | None:
        """What the quantizers add to the loss."""
        found = [p for quantizer in self.activations.values() if (p := quantizer.penalty()) is not None]
        return torch.stack(found).sum() if found else None

    def project(self) -> None:
        """After a step of the optimizer."""
        for quantizer in self.activations.values():
            quantizer.project()

    def _handle(self, site: SiteKey, contraction: Contraction) -> Tensor:
        if site not in self._treatments:
            return contraction.float()
        found = {role: self._rounded(site, role, values) for role, values in contraction.activations().items()}
        if isinstance(contraction, MatMul):
            left, right = (found[role] for role in contraction.roles)
            return replace(contraction, left=left, right=right).float()
        return replace(contraction, input=found["input"], weight=self.weight(site, contraction)).float()

    def weight(self, site: SiteKey, contraction: Weighted) -> Tensor:
        """The weight of a site as its codes have it, in the network's layout."""
        layout = WeightLayout.of(contraction)
        return layout.outputs_first(self.weights[site](layout.outputs_first(contraction.weight), self._noise))

    def _rounded(self, site: SiteKey, role: str, values: Tensor) -> Tensor:
        if role == PROBABILITY:
            spec = self.operands[site, role].spec
            scale, zero = parameters_from_range(np.zeros(()), np.ones(()), spec)
            place = torch.tensor(float(zero))
            return fake_quantize(values, torch.tensor(float(scale)), place, spec.format.qmin, spec.format.qmax)
        quantized: Tensor = self.activations[site, role](values, self._timestep, self._noise)
        return quantized

    def _with(self, given: Given) -> Call:
        return lambda module, x, timestep: self._call(module, x, timestep, **given)

    def _switch(self, *, training: bool) -> None:
        """Dropout is all that training changes of a network: normalisation keeps its statistics."""
        self.quantizers.train(training)
        for layer in self.module.modules():
            if isinstance(layer, _DropoutNd):
                layer.p = self._dropout
                layer.train(training)
