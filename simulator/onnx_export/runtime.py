"""An exported model in ONNX Runtime, with every integer tensor that its fused operators read and write.

To make an inner tensor of a model an output can change what the runtime fuses. So the graph is optimized first, as it
is deployed, and saved; outputs are added to that graph, which then runs with optimization switched off. That the two
give the same bits, from the same operators, is checked.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, ValueInfoProto

from samplers.errors import BadInput
from simulator.instrument.contractions import Conv, MatMul
from simulator.instrument.sites import SiteKey
from simulator.onnx_export.site import DeployedSite

INTEGER_OPERATORS = ("QLinearConv", "QGemm", "QLinearMatMul")
RIGHT = {"QLinearMatMul": 3}
"""Where an operator reads a second run-time operand."""

_RENAMED = re.compile(r"_token_[0-9]+$")
"""What layout transformations add to a node's name."""


@dataclass(frozen=True)
class SiteTensors:
    """Codes that one fused operator read and wrote, in the layout that ``site_codes`` takes and gives them in.

    Those of a linear layer are (rows, features), whatever leading axes the network has.
    """

    operands: tuple[np.ndarray, ...]
    output: np.ndarray


class Session:
    """An exported model as ONNX Runtime runs it, on one thread.

    Args:
        model: what ``export_model`` gives, or a part of it.
        sites: its sites.
        level: of ``onnxruntime.GraphOptimizationLevel``; the runtime's own default is ORT_ENABLE_ALL.

    Attributes:
        optimized: the graph that runs.
        nodes: the integer operator of each site.

    Raises:
        BadInput: a site has no integer operator in the optimized graph.
    """

    def __init__(self, model: ModelProto, sites: Mapping[SiteKey, DeployedSite], level: Any = None) -> None:
        self.sites = sites
        level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL if level is None else level
        self._deployed, self.optimized = _session(model, level)
        self.nodes = self._integer_nodes()
        self._exposed = self._exposing(dict.fromkeys(name for node in self.nodes.values() for name in _codes_of(node)))

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """What the deployed graph gives."""
        return self._deployed.run(None, dict(inputs))[0]

    def watched(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[SiteKey, SiteTensors]]:
        """The same output, with the codes of every site in execution order.

        Raises:
            BadInput: the watched graph gives other bits than the deployed one.
        """
        output, found = self._run_exposed(self._exposed, inputs)
        return output, {key: self._tensors(key, node, found) for key, node in self.nodes.items()}

    def inner(self, names: Iterable[str], inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Tensors of the optimized graph by name, but no output of a DequantizeLinear, which it would duplicate.

        Raises:
            BadInput: as :meth:`watched`, or such an output.
        """
        return self._run_exposed(self._exposing(names), inputs)[1]

    def _exposing(self, names: Iterable[str]) -> onnxruntime.InferenceSession:
        """The optimized graph as it is, with more outputs."""
        exposed = ModelProto()
        exposed.CopyFrom(self.optimized)
        known = {entry.name for entry in exposed.graph.output}
        exposed.graph.output.extend(ValueInfoProto(name=name) for name in names if name not in known)
        session, ran = _session(exposed, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
        if _operators(ran) != _operators(self.optimized):
            raise BadInput("an optimized graph must run as it is", got="another one", fix="use another onnxruntime")
        return session

    def _run_exposed(
        self, session: onnxruntime.InferenceSession, inputs: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        names = [entry.name for entry in session.get_outputs()]
        found = dict(zip(names, session.run(None, dict(inputs)), strict=True))
        output = self(inputs)
        if output.tobytes() != found[names[0]].tobytes():
            raise BadInput("watching must not change the output", got="other bits", fix="use another onnxruntime")
        return output, found

    def _integer_nodes(self) -> dict[SiteKey, NodeProto]:
        named = {_RENAMED.sub("", node.name): node for node in self.optimized.graph.node if node.name}
        found = {}
        for key in self.sites:
            node = named.get(str(key))
            if node is None or node.op_type not in INTEGER_OPERATORS:
                raise BadInput(
                    "every site must become an integer operator",
                    got=f"{node.op_type if node else 'none'} at {key}",
                    fix="this runtime does not fuse it",
                )
            found[key] = node
        return found

    def _tensors(self, key: SiteKey, node: NodeProto, found: Mapping[str, np.ndarray]) -> SiteTensors:
        *operands, output = (found[name] for name in _codes_of(node))
        contraction = self.sites[key].contraction
        if isinstance(contraction, Conv) and any(a.name == "channels_last" and a.i for a in node.attribute):
            operands, output = [np.moveaxis(codes, -1, 1) for codes in operands], np.moveaxis(output, -1, 1)
        if isinstance(contraction, MatMul):
            operands[1] = operands[1].swapaxes(-1, -2)
        return SiteTensors(tuple(np.ascontiguousarray(codes) for codes in operands), np.ascontiguousarray(output))


def _codes_of(node: NodeProto) -> tuple[str, ...]:
    """Names of an integer operator's run-time operands and of its output."""
    right = (node.input[RIGHT[node.op_type]],) if node.op_type in RIGHT else ()
    return (node.input[0], *right, node.output[0])


def _operators(model: ModelProto) -> Counter[tuple[str, str]]:
    return Counter((node.domain, node.op_type) for node in model.graph.node)


def _session(model: ModelProto, level: Any) -> tuple[onnxruntime.InferenceSession, ModelProto]:
    """A session, and the graph that it runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = level
    options.log_severity_level = 3  # saved with the layouts of this machine it warns, and here it runs on this machine
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session, onnx.load(path)
