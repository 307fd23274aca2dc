"""One site cut from an exported model: the codes of its operands in, the codes of its output out."""

from __future__ import annotations

from onnx import ModelProto, TensorProto, helper

from simulator.instrument.sites import SiteKey


def cut(model: ModelProto, site: SiteKey) -> ModelProto:
    """The dequantized operands and constants, the float operator and the quantized output of ``site``, and no more.

    Inputs are ``<site>/<role>/codes`` as the operator takes them (a matmul's second operand with its depth before the
    columns), the output is ``<site>/output/codes``; all uint8. The nodes are the export's own.
    """
    by_output = {output: node for node in model.graph.node for output in node.output}
    constants = {constant.name: constant for constant in model.graph.initializer}
    output = f"{site}/output/codes"
    inputs: list[str] = []
    nodes, kept, open_names = [], {}, [output]
    while open_names:
        name = open_names.pop()
        if name in constants:
            kept[name] = constants[name]
        elif by_output[name].op_type == "QuantizeLinear" and name != output:
            inputs.append(name)
        elif by_output[name] not in nodes:
            nodes.append(by_output[name])
            open_names.extend(reversed(by_output[name].input))
    codes = [helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in (*dict.fromkeys(inputs), output)]
    graph = helper.make_graph(nodes[::-1], str(site), codes[:-1], codes[-1:], list(kept.values()))
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
