"""What precedes each layer whose input channels can be rescaled: the knowledge of a network that balancing needs."""

from __future__ import annotations

from dataclasses import dataclass

from samplers.errors import BadInput


@dataclass(frozen=True)
class AdaptiveNorm:
    """``norm(x) (1 + scale) + shift``, with scale and shift two ranges of one linear layer's outputs (adaLN).

    Attributes:
        modulation: path of that layer.
        shift: first output of the shift, and the end.
        scale: likewise of the scale.
    """

    modulation: str
    shift: tuple[int, int]
    scale: tuple[int, int]


@dataclass(frozen=True)
class AffineNorm:
    """A layer norm or group norm with a weight and bias per channel, which nothing else reads."""

    norm: str


@dataclass(frozen=True)
class Outputs:
    """Output channels of layers whose sum arrives channel by channel, and which nothing else reads.

    What lies between must commute with a factor per channel: mixing by attention probabilities, nearest upsampling,
    reshaping, but no activation.
    """

    layers: tuple[str, ...]


@dataclass(frozen=True)
class Division:
    """Nothing before the layers can take the factor: each divides its input at run time."""


Source = AdaptiveNorm | AffineNorm | Outputs | Division


@dataclass(frozen=True)
class Input:
    """One tensor, the layers that read it (all of them), and where its channels come from.

    Attributes:
        readers: paths of linear layers or convolutions without groups; they share one factor per channel.
        source: what a factor is folded into.
    """

    readers: tuple[str, ...]
    source: Source

    def __post_init__(self) -> None:
        if not isinstance(self.readers, tuple) or not self.readers:
            raise BadInput("an input needs its readers", got=repr(self.readers), fix="give a tuple of paths")

    @property
    def name(self) -> str:
        """The first reader's path."""
        return self.readers[0]


@dataclass(frozen=True)
class Graph:
    """The inputs of a network whose channels can be rescaled.

    Their order counts: factors are computed and folded one input after the other, so an input comes after those that
    are folded into its readers (a value projection's input after the attention's output).

    Raises:
        BadInput: no input, or a layer that reads two.
    """

    inputs: tuple[Input, ...]

    def __post_init__(self) -> None:
        readers = [path for found in self.inputs for path in found.readers]
        if not readers or len(set(readers)) != len(readers):
            raise BadInput("a graph needs inputs, and each layer reads one", got=readers, fix="correct the graph")

    @property
    def readers(self) -> tuple[str, ...]:
        """Paths of all layers whose input is rescaled."""
        return tuple(path for found in self.inputs for path in found.readers)

    @property
    def adaptive(self) -> bool:
        """Whether a norm is modulated (adaLN)."""
        return any(isinstance(found.source, AdaptiveNorm) for found in self.inputs)

    def dividing(self) -> Graph:
        """The same inputs, none folded: all readers divide at run time."""
        return Graph(tuple(Input(found.readers, Division()) for found in self.inputs))

    def with_division(self, *paths: str) -> Graph:
        """This graph and further layers, each dividing its own input at run time."""
        return Graph((*self.inputs, *(Input((path,), Division()) for path in paths)))
