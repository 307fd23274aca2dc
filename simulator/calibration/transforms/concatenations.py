"""Where a network concatenates a skip connection: what its family knows, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from samplers.errors import BadInput
from simulator.models.registry import Model
from simulator.models.unet import UNet


@dataclass(frozen=True)
class Concatenation:
    """Two feature maps joined along the channels, and who reads the result.

    Attributes:
        first: channels of the first one.
        direct: paths of layers that read the concatenation itself.
        normalized: paths of layers that read the same channels after an operation that keeps them apart (norm, SiLU).
    """

    first: int
    direct: tuple[str, ...]
    normalized: tuple[str, ...] = ()


def concatenations_of(model: Model) -> tuple[Concatenation, ...]:
    """The skip concatenations of a known family: our UNet, diffusers' UNet2DModel and UNet2DConditionModel.

    Raises:
        BadInput: a network without skip concatenations, or of a family that is not known.
    """
    module = model.module
    if isinstance(module, UNet):
        return _unet(module)
    if type(module).__name__ in ("UNet2DModel", "UNet2DConditionModel"):
        return _diffusers(module)
    raise BadInput(
        "a split shortcut needs a network that concatenates skip connections, of a known family",
        got=type(module).__name__,
        fix="use a UNet, or name the places yourself: concatenations=(Concatenation(...),)",
    )


def _unet(module: UNet) -> tuple[Concatenation, ...]:
    wide, deep = module.config.channels
    return tuple(
        Concatenation(first, _present(module, f"up.{i}.shortcut"), (f"up.{i}.conv1",))
        for i, first in ((1, deep), (0, wide))
    )


def _diffusers(module: nn.Module) -> tuple[Concatenation, ...]:
    found, first = [], int(module.config.block_out_channels[-1])  # type: ignore[union-attr, index, arg-type]  # theirs
    for i, block in enumerate(module.up_blocks):  # type: ignore[arg-type, union-attr, var-annotated]  # theirs
        if type(block).__name__ not in ("UpBlock2D", "AttnUpBlock2D", "CrossAttnUpBlock2D"):
            raise BadInput(
                "up blocks must be ResNet blocks after a concatenation", got=f"{type(block).__name__} as up_blocks.{i}",
                fix="name the concatenations yourself",
            )  # fmt: skip
        for j, resnet in enumerate(block.resnets):
            path = f"up_blocks.{i}.resnets.{j}"
            direct = _present(module, f"{path}.conv_shortcut")
            found.append(Concatenation(first, direct, (f"{path}.conv1",)))
            first = int(resnet.out_channels)
    return tuple(found)


def _present(module: nn.Module, path: str) -> tuple[str, ...]:
    """The path where a convolution stands there: a block whose sizes agree adds its input as it is."""
    parent, _, name = path.rpartition(".")
    return (path,) if isinstance(getattr(module.get_submodule(parent), name), nn.Conv2d) else ()
