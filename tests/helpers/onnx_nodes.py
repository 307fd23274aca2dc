"""One-node ONNX models, run by ONNX Runtime on one thread."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"


def run(
    operator: str, inputs: list[np.ndarray], output: int = TensorProto.UNDEFINED, domain: str = "", **attributes: object
) -> np.ndarray:
    """Output of one node. Every input but the first is a constant, as optimised kernels expect.

    Args:
        operator: its name.
        inputs: arrays in the operator's order.
        output: the output's ``TensorProto`` type.
        domain: empty for ONNX's own operators.
        attributes: of the node.
    """
    names = [f"i{n}" for n in range(len(inputs))]
    first = helper.make_tensor_value_info("i0", helper.np_dtype_to_tensor_dtype(inputs[0].dtype), inputs[0].shape)
    graph = helper.make_graph(
        [helper.make_node(operator, names, ["y"], domain=domain, **attributes)],
        "one",
        [first],
        [helper.make_tensor_value_info("y", output, None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in zip(names[1:], inputs[1:], strict=True)],
    )
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"i0": inputs[0]})[0]
