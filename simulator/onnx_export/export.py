"""The exported model: the traced network with the nodes of each site in place of its placeholder."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import ModelProto, TensorProto, helper

from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.sites import SiteKey
from simulator.onnx_export.qdq import SiteNodes
from simulator.onnx_export.site import DeployedSite
from simulator.onnx_export.tracing import DOMAIN, NUMBER, trace
from simulator.provenance import canonical


def export_model(quantized: QuantizedModel, sites: Mapping[SiteKey, DeployedSite]) -> ModelProto:
    """The ONNX model of a quantized network: ``x`` (n, ...) float32 and ``timestep`` (n,) int64 to ``output``.

    Args:
        quantized: the network, under an 8-bit scheme.
        sites: its :func:`deployed_sites`.

    Returns:
        A model of opset 20 whose sites are QuantizeLinear and DequantizeLinear around one operator each (``qdq.py``).
        The same arguments give the same bytes.
    """
    model = onnx.load_from_string(trace(quantized, list(sites)))
    _fill(model, list(sites.values()))
    source = quantized.model
    helper.set_model_props(
        model,
        {
            "model": f"{source.name}@{source.version}",
            "weights_digest": source.weights_digest,
            "scheme": str(quantized.scheme),
            "ranges": canonical(dict(quantized.ranges.source)),
        },
    )
    model.producer_name, model.producer_version = "qnoise", ""
    onnx.checker.check_model(model, full_check=True)
    return model


def _fill(model: ModelProto, sites: list[DeployedSite]) -> None:
    graph, nodes = model.graph, []
    if len(graph.input) == 1:  # the exporter drops an input that the network does not read
        graph.input.append(helper.make_tensor_value_info("timestep", TensorProto.INT64, ["n"]))
    for node in graph.node:
        if node.domain != DOMAIN:
            nodes.append(node)
            continue
        (number,) = (a.i for a in node.attribute if a.name == NUMBER)
        made = SiteNodes(sites[number], list(node.input), node.output[0])
        nodes.extend(made.nodes)
        graph.initializer.extend(made.constants)
    del graph.node[:]
    graph.node.extend(nodes)
    others = [entry for entry in model.opset_import if entry.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(others)
