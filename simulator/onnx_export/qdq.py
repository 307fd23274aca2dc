"""A site as ONNX nodes: QuantizeLinear and DequantizeLinear around one float operator.

A runtime fuses the group into one integer operator (ONNX Runtime: QLinearConv, QGemm, QLinearMatMul). Every name
begins with the site's: ``<site>`` is the operator, ``<site>/<role>/codes`` the codes of an operand,
``<site>/output/codes`` those that come out, ``<site>/weight/codes`` and ``<site>/bias/codes`` the constants.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from simulator.calibration.ranges import OUTPUT
from simulator.instrument.contractions import Conv, Linear, MatMul
from simulator.onnx_export.site import DeployedSite


class SiteNodes:
    """Nodes and constants of one site, in order.

    Args:
        site: the contraction.
        inputs: names of the float operands.
        output: name of the float result.
    """

    def __init__(self, site: DeployedSite, inputs: list[str], output: str) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._site = site
        contraction = site.contraction
        if isinstance(contraction, MatMul):
            self._matmul(inputs, output)
        elif isinstance(contraction, Conv):
            self._conv(contraction, inputs[0], output)
        else:
            assert isinstance(contraction, Linear)
            self._linear(contraction, inputs[0], output)

    def _conv(self, contraction: Conv, x: str, output: str) -> None:
        g = contraction.geometry
        self._operator(
            "Conv", [self._operand("input", x), *self._constants(0)], output,
            kernel_shape=list(contraction.weight.shape[2:]), strides=list(g.stride), dilations=list(g.dilation),
            pads=[before for before, _ in g.padding] + [after for _, after in g.padding], group=g.groups,
        )  # fmt: skip

    def _linear(self, contraction: Linear, x: str, output: str) -> None:
        """A Gemm, which has a bias where MatMul has none; other leading axes than one become rows around it."""
        outputs, depth = contraction.weight.shape
        if contraction.input.ndim == 2:
            self._operator("Gemm", [self._operand("input", x), *self._constants(0)], output, transB=1)
            return
        rows = self._node("Reshape", [x, self._constant("rows/shape", np.array([-1, depth]))], "rows")
        wide = self._name("wide")
        self._operator("Gemm", [self._operand("input", rows), *self._constants(0)], wide, transB=1)
        leading = self._node("Shape", [x], "leading", start=0, end=-1)
        shape = self._node("Concat", [leading, self._constant("shape/outputs", np.array([outputs]))], "shape", axis=0)
        self._node("Reshape", [wide, shape], "unfold", output)

    def _matmul(self, inputs: list[str], output: str) -> None:
        """The second operand has its depth last, ONNX wants it before the columns."""
        left, right = self._site.operands
        rank = self._site.contraction.operands()[1].ndim
        turned = self._node("Transpose", [inputs[1]], "turned", perm=[*range(rank - 2), rank - 1, rank - 2])
        self._operator("MatMul", [self._operand(left, inputs[0]), self._operand(right, turned)], output)

    def _operator(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        """The float operator named after the site, and its output's codes."""
        real = self._name("float")
        self.nodes.append(helper.make_node(kind, inputs, [real], str(self._site.key), **attributes))
        spec = self._site.output
        self._quantized(OUTPUT, real, spec.scale, spec.zero_point, output)

    def _operand(self, role: str, x: str) -> str:
        how = self._site.operands[role]
        return self._quantized(role, x, how.scale, how.zero_point, self._name(f"{role}/real"))

    def _quantized(self, role: str, x: str, scale: np.float32 | float, zero_point: int, real: str) -> str:
        values: dict[str, np.generic] = {"scale": np.float32(scale), "zero_point": np.uint8(zero_point)}
        parameters = [self._constant(f"{role}/{name}", value) for name, value in values.items()]
        codes = self._node("QuantizeLinear", [x, *parameters], f"{role}/codes")
        return self._node("DequantizeLinear", [codes, *parameters], f"{role}/dequantize", real)

    def _constants(self, axis: int) -> list[str]:
        """Float names of the weight, and of the bias where there is one."""
        weight, bias = self._site.weight, self._site.bias
        assert weight is not None
        scale = weight.scale.reshape(-1)
        found = [self._dequantized("weight", weight.codes, scale, axis)]
        if bias is not None:
            found.append(self._dequantized("bias", bias, self._site.operands["input"].scale * scale, 0))
        return found

    def _dequantized(self, role: str, codes: np.ndarray, scale: np.ndarray, axis: int) -> str:
        values = {"codes": codes, "scale": scale, "zero_point": np.zeros(scale.shape, codes.dtype)}
        names = [self._constant(f"{role}/{name}", value) for name, value in values.items()]
        return self._node("DequantizeLinear", names, f"{role}/real", axis=axis)

    def _constant(self, name: str, value: np.ndarray | np.generic) -> str:
        array = np.ascontiguousarray(value).reshape(np.shape(value))  # the first alone would give a scalar an axis
        self.constants.append(numpy_helper.from_array(array, self._name(name)))
        return self._name(name)

    def _node(self, kind: str, inputs: list[str], name: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node; returns the name of its output, the node's own by default."""
        self.nodes.append(helper.make_node(kind, inputs, [output or self._name(name)], self._name(name), **attributes))
        return self.nodes[-1].output[0]

    def _name(self, name: str) -> str:
        return f"{self._site.key}/{name}"
