"""The graphs of known families: our DiT and UNet, and diffusers' DiTTransformer2DModel."""

from __future__ import annotations

from torch import nn

from samplers.errors import BadInput
from simulator.calibration.balancing.graph import AdaptiveNorm, AffineNorm, Graph, Input, Outputs
from simulator.models.dit import DiT
from simulator.models.registry import Model
from simulator.models.unet import UNet


def graph_of(model: Model) -> Graph:
    """What can be folded exactly in a network of a known family.

    DiT: the attention's output projection (into the value projection), query, key and value, and the perceptron's first
    layer (into adaLN); the second layer follows a GELU, and the head stays as it is, as published. UNet: query, key and
    value (into the group norm), the attention's output (into the value projection) and the upsampling convolution (into
    the layers of the block before it); its other convolutions follow a SiLU or a sum that a skip connection reads too.

    Raises:
        BadInput: another family.
    """
    module = model.module
    if isinstance(module, DiT):
        return _dit(module)
    if isinstance(module, UNet):
        return _unet(module)
    if type(module).__name__ == "DiTTransformer2DModel":
        return _diffusers_dit(module)
    raise BadInput(
        "balancing needs to know what precedes each layer: DiT, UNet or diffusers' DiTTransformer2DModel",
        got=type(module).__name__,
        fix="pass graph=Graph(...) with the layers that read each tensor and the norm or layers that it comes from",
    )


def _dit(module: DiT) -> Graph:
    width, inputs = module.config.width, []
    for i in range(module.config.depth):
        block = f"blocks.{i}"
        inputs += _block(
            f"{block}.modulation", width, f"{block}.attention.output",
            (f"{block}.attention.query", f"{block}.attention.key", f"{block}.attention.value"), f"{block}.mlp.linear1",
        )  # fmt: skip
    return Graph(tuple(inputs))


def _diffusers_dit(module: nn.Module) -> Graph:
    inputs = []
    for i, block in enumerate(module.transformer_blocks):  # type: ignore[arg-type, var-annotated]  # nn.Module's stub
        path = f"transformer_blocks.{i}"
        if getattr(block.attn1, "fused_projections", False):
            raise BadInput(
                "query, key and value must be layers of their own", got=f"fused ones in {path}", fix="unfuse them"
            )
        attention = f"{path}.attn1"
        inputs += _block(
            f"{path}.norm1.linear", block.norm1.linear.in_features, f"{attention}.to_out.0",
            (f"{attention}.to_q", f"{attention}.to_k", f"{attention}.to_v"), f"{path}.ff.net.0.proj",
        )  # fmt: skip
    return Graph(tuple(inputs))


def _block(modulation: str, width: int, output: str, projections: tuple[str, str, str], hidden: str) -> list[Input]:
    """A block with adaLN-zero: its modulation gives shift, scale and gate of the attention, then of the perceptron."""
    first = AdaptiveNorm(modulation, (0, width), (width, 2 * width))
    second = AdaptiveNorm(modulation, (3 * width, 4 * width), (4 * width, 5 * width))
    return [Input((output,), Outputs(projections[2:])), Input(projections, first), Input((hidden,), second)]


def _unet(module: UNet) -> Graph:
    attention = "mid.attention"
    query, key, value, output = (f"{attention}.{name}" for name in ("query", "key", "value", "output"))
    inputs = [
        Input((output,), Outputs((value,))),
        Input((query, key, value), AffineNorm(f"{attention}.norm")),
    ]
    if isinstance(module.up[1].shortcut, nn.Conv2d):  # else the block adds an input that others read
        inputs.append(Input(("upsample",), Outputs(("up.1.conv2", "up.1.shortcut"))))
    return Graph(tuple(inputs))
