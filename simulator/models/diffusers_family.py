"""What the loader must know of a network class of diffusers: input, conditions, adapter, and what is not run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from samplers.errors import BadInput
from simulator.models.registry import Condition

Config = Mapping[str, Any]
Call = Callable[..., Tensor]


@dataclass(frozen=True)
class Family:
    """A network class of diffusers.

    Args:
        name: of the class.
        conditions: those that a configuration has.
        make_call: from configuration and (height, width) to an adapter of (module, x, timestep, **conditions).
        classes: number of labels of a configuration, None without any; the labels are then the first condition.
        runs: configuration entries that restrict what is run, with the values that can be.
        packed: whether a sample is a row of tokens in place of an image.
    """

    name: str
    conditions: Callable[[Config], tuple[Condition, ...]]
    make_call: Callable[[Config, tuple[int, int]], Call]
    classes: Callable[[Config], int | None] = lambda config: None
    runs: Mapping[str, tuple[Any, ...]] | None = None
    packed: bool = False

    def size(self, config: Config, given: tuple[int, int] | None) -> tuple[int, int]:
        """Height and width of the input.

        Raises:
            BadInput: neither given nor in the configuration.
        """
        size = given or config.get("sample_size")
        if size is None:
            raise BadInput(
                f"this {self.name} has no size of its own",
                got="no sample_size",
                fix="load it with simulator.models.diffusers.load(folder, sample_size=...), such as 64 tokens a side "
                "for Flux at 1024 pixels",
            )
        height, width = (size, size) if isinstance(size, int) else size
        return int(height), int(width)

    def shape(self, config: Config, given: tuple[int, int] | None) -> tuple[int, ...]:
        """Shape of one sample: (channels, height, width), for Flux (tokens, channels)."""
        height, width = self.size(config, given)
        return (height * width, config["in_channels"]) if self.packed else (config["in_channels"], height, width)

    def call(self, config: Config, given: tuple[int, int] | None, *, variance: bool = False) -> Call:
        """The adapter; of a network that predicts a variance too, the mean alone unless ``variance``."""
        whole = self.make_call(config, self.size(config, given))
        if variance:
            return whole

        def mean(module: nn.Module, x: Tensor, timestep: Tensor, **conditions: Tensor) -> Tensor:
            output = whole(module, x, timestep, **conditions)
            return output if output.shape == x.shape else output[:, : x.shape[1]]

        return mean

    def predicts_variance(self, config: Config) -> bool:
        """Whether a network has the channels of a variance."""
        return not self.packed and config.get("out_channels") == 2 * config["in_channels"]

    def check(self, config: Config, folder: Path) -> None:
        """Refuse what is not run: inputs that are more than a noisy sample, and conditions on images.

        Raises:
            BadInput: naming the entry.
        """
        channels, out = config["in_channels"], config.get("out_channels") or config["in_channels"]
        if out not in (channels, 2 * channels):
            raise BadInput(
                "a network must predict what it is given, or that and a variance",
                got=f"{out} channels from {channels} in {folder}",
                fix="inpainting and similar networks need a module:factory of their own",
            )
        for entry, values in (self.runs or {}).items():
            if config.get(entry) not in values:
                raise BadInput(
                    f"{entry} of {self.name} must be one of {', '.join(map(str, values))}",
                    got=f"{config.get(entry)!r} in {folder}",
                    fix="write a module:factory that calls the network",
                )
