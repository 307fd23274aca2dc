"""A network with balanced channels: factors folded into what comes before each layer, and into its weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from torch import nn

from samplers.errors import BadInput
from simulator.calibration.balancing.families import graph_of
from simulator.calibration.balancing.folding import check_graph, fold, salience_of_weight
from simulator.calibration.balancing.graph import Division, Graph
from simulator.calibration.balancing.rules import BalancingRule, Factors
from simulator.calibration.balancing.salience import Salience
from simulator.models.derived import derive
from simulator.models.registry import Model


class Placement(Enum):
    """Where activations are divided."""

    OFFLINE = "offline"
    """In what comes before, wherever the graph says how: no operation is added."""
    RUN_TIME = "run time"
    """At each layer's input, as PTQ4DiT's released code: one division per element."""


@dataclass(frozen=True)
class Balanced:
    """A balanced network.

    Attributes:
        model: the network; its sites have the names they had.
        factors: of each input, by the path of its first reader.
        divided: paths of layers that divide their input at run time.
    """

    model: Model
    factors: Mapping[str, Factors]
    divided: tuple[str, ...]


def balance(
    model: Model, salience: Salience, rule: BalancingRule, *, graph: Graph | None = None,
    placement: Placement = Placement.OFFLINE,
) -> Balanced:  # fmt: skip
    """Divide each input's channels by the rule's factors, and multiply its readers' weights by them.

    Inputs are taken in the graph's order, each with the weights as those before it left them: what was folded into a
    value projection counts in that projection's own salience, so that both maxima are equal in the network that runs.

    Args:
        model: the network.
        salience: of this network's activations.
        rule: ``SalienceBalancing()`` or ``SmoothQuant()``.
        graph: which layers, and what comes before them; by default what the network's family knows.
        placement: where activations are divided.

    Raises:
        BadInput: salience of another network, a network of an unknown family or, for a rule that needs it, without
            adaLN; a graph that does not fit the network.
    """
    collected_on = salience.source.get("weights_digest", model.weights_digest)
    if collected_on != model.weights_digest:
        raise BadInput(
            f"salience must be that of the model, weights {model.weights_digest[:12]}",
            got=f"weights {collected_on[:12]}",
            fix="collect it on this model",
        )
    graph = graph_of(model) if graph is None else graph
    if rule.needs_adaptive_norm and not graph.adaptive:
        raise BadInput(
            "salience balancing needs a network with adaLN, whose modulation takes the factors",
            got=f"{type(model.module).__name__}, without one",
            fix="use a DiT, or SmoothQuant(), or set needs_adaptive_norm=False",
        )
    check_graph(model.module, graph)
    if placement is Placement.RUN_TIME:
        graph = graph.dividing()
    factors: dict[str, Factors] = {}

    def change(module: nn.Module) -> None:
        for found in graph.inputs:
            activations, weight = salience.of(found.readers), salience_of_weight(module, found)
            if activations.shape[1] != len(weight):
                raise BadInput(
                    "salience must have the layer's channels", got=f"{activations.shape[1]} of {len(weight)}",
                    fix=f"collect it on this model ({found.name})",
                )  # fmt: skip
            factors[found.name] = rule.factors(activations, weight)
            fold(module, found, factors[found.name].factor)

    name = rule.name + ("-divided" if placement is Placement.RUN_TIME else "")
    divided = tuple(p for found in graph.inputs if isinstance(found.source, Division) for p in found.readers)
    return Balanced(derive(model, change, name), factors, divided)
