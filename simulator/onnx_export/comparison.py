"""The exported model in ONNX Runtime against the simulator: each site on the same operands, then the whole networks.

Given the same operands, a site must give the same codes. The networks as wholes also hold float operations (norms,
activation functions, softmax), which the runtime and torch round differently; a difference may turn the code of an
operand that lies near a tie, and everything behind it follows. So a difference is traced to the first operand whose
codes differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto
from torch import Tensor

from simulator.instrument.contractions import Contraction
from simulator.instrument.emulation import array
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.sites import SiteKey
from simulator.onnx_export.codes import site_codes
from simulator.onnx_export.network import run_deployed
from simulator.onnx_export.runtime import Session, SiteTensors
from simulator.onnx_export.site import DeployedSite

EXACT = frozenset(
    (
        "QuantizeLinear", "Constant", "Cast", "Concat", "Expand", "Gather", "Identity", "Reshape", "Slice", "Squeeze",
        "Transpose", "Unsqueeze",
    )
)  # fmt: skip
"""Operators that round no float: they move elements."""


@dataclass(frozen=True)
class SiteComparison:
    """One site of one pass.

    Attributes:
        key: its name.
        elements: codes of its output.
        mismatches: how many of them the simulator gives another value, given the runtime's operands.
        operands: how many codes of each operand differ between the two networks, by role.
        output: how many codes of the output do.
        largest: the largest difference between two codes of an operand or of the output.
        from_tie: of the operands whose codes differ, the largest distance from a tie, in steps of the scale, that the
            simulator's float operand has; 0 where none differs.
    """

    key: SiteKey
    elements: int
    mismatches: int
    operands: Mapping[str, int]
    output: int
    largest: int
    from_tie: float


@dataclass(frozen=True)
class Comparison:
    """One pass of both networks on the same input.

    Attributes:
        sites: in execution order.
        elements: of the network's float32 output.
        differing: how many of them have other bits.
        largest: largest absolute difference.
    """

    sites: tuple[SiteComparison, ...]
    elements: int
    differing: int
    largest: float

    @property
    def first(self) -> tuple[SiteComparison, str] | None:
        """The first operand, as site and role, whose codes differ: every code before it is equal. None if none does."""
        return next(((site, role) for site in self.sites for role, n in site.operands.items() if n), None)


def compare(quantized: QuantizedModel, session: Session, x: Tensor, timestep: Tensor) -> Comparison:
    """Run both networks on float32 ``x`` and int64 ``timestep`` (n,), and compare every integer tensor."""
    theirs, tensors = session.watched({"x": x.numpy(), "timestep": timestep.numpy()})
    sites: list[SiteComparison] = []

    def watch(key: SiteKey, contraction: Contraction, operands: tuple[np.ndarray, ...], output: np.ndarray) -> None:
        sites.append(_compare_site(session.sites[key], tensors[key], contraction, operands, output))

    ours = run_deployed(quantized, session.sites, x, timestep, watch).numpy()
    off = np.abs(ours.astype(np.float64) - theirs)
    return Comparison(tuple(sites), ours.size, int(np.count_nonzero(off)), float(off.max()))


def float_operators(model: ModelProto, site: SiteKey, role: str) -> tuple[str, ...]:
    """Types of the exported operators that round, between the codes of earlier sites and an operand, nearest first."""
    by_output = {output: node for node in model.graph.node for output in node.output}
    open_names, seen = [f"{site}/{role}/codes"], []
    found: dict[str, None] = {}
    while open_names:
        node = by_output.get(open_names.pop(0))
        if node is None or node.name in seen:
            continue
        seen.append(node.name)
        if node.op_type in ("DequantizeLinear", "Shape"):  # behind these lie other codes, or values that do not matter
            continue
        if node.op_type not in EXACT:
            found[node.op_type] = None
        open_names.extend(node.input)
    return tuple(found)


def _compare_site(
    site: DeployedSite,
    theirs: SiteTensors,
    contraction: Contraction,
    operands: tuple[np.ndarray, ...],
    output: np.ndarray,
) -> SiteComparison:
    given = site_codes(site, *theirs.operands)
    pairs = [*zip((*operands, output), (*theirs.operands, theirs.output), strict=True)]
    off = [np.abs(mine.reshape(codes.shape).astype(np.int16) - codes) for mine, codes in pairs]
    *differ, out = (int(np.count_nonzero(d)) for d in off)
    floats = zip(site.operands.values(), contraction.activations().values(), off[:-1], strict=True)
    return SiteComparison(
        site.key,
        output.size,
        int(np.count_nonzero(given != theirs.output)),
        dict(zip(site.operands, differ, strict=True)),
        out,
        max(int(d.max()) for d in off),
        max(_from_tie(array(x)[d.reshape(x.shape) > 0], how.scale) for how, x, d in floats),
    )


def _from_tie(x: np.ndarray, scale: np.float32) -> float:
    """Largest distance of ``x / scale`` from the middle between two integers."""
    steps = x.astype(np.float64) / np.float64(scale)
    return float(np.abs(np.abs(steps - np.floor(steps)) - 0.5).max(initial=0.0))
