"""The architectures of trained networks: which class a manifest's name stands for, and which one a config builds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from samplers.errors import BadInput
from simulator.models.dit import DiT, DiTConfig
from simulator.models.unet import UNet, UNetConfig

NetworkConfig = UNetConfig | DiTConfig
Network = UNet | DiT


@dataclass(frozen=True)
class Architecture:
    """A network class and the class of its sizes."""

    network: type[Network]
    config: type[NetworkConfig]

    @property
    def name(self) -> str:
        """Import path of the network class, what manifests record."""
        return f"{self.network.__module__}.{self.network.__qualname__}"


_ARCHITECTURES = (Architecture(UNet, UNetConfig), Architecture(DiT, DiTConfig))


def build(config: NetworkConfig) -> Network:
    """A new network of these sizes, its weights drawn from torch's global generator."""
    for architecture in _ARCHITECTURES:
        if isinstance(config, architecture.config):
            return architecture.network(config)  # type: ignore[arg-type]  # mypy pairs no two fields of one value
    raise BadInput("the sizes must be those of a known network", got=type(config).__name__, fix=f"one of {_names()}")


def architecture_of(network: Network) -> str:
    """The name that manifests record for a network."""
    return next(a.name for a in _ARCHITECTURES if isinstance(network, a.network))


def config_from(name: str, sizes: dict[str, Any]) -> NetworkConfig:
    """The sizes that a manifest records for the architecture ``name``.

    Raises:
        BadInput: an unknown architecture, or sizes that it refuses.
        TypeError: sizes that it does not have.
    """
    for architecture in _ARCHITECTURES:
        if architecture.name == name:
            return architecture.config(**sizes)
    raise BadInput("the architecture must be a known one", got=repr(name), fix=f"one of {_names()}")


def _names() -> str:
    return ", ".join(architecture.name for architecture in _ARCHITECTURES)
