"""The handlers of a quantized network's forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from simulator.instrument import emulated_attention
from simulator.instrument.attention_parts import Attention
from simulator.instrument.contractions import Contraction
from simulator.instrument.machines.machine import Emulated
from simulator.instrument.sites import SiteKey

if TYPE_CHECKING:
    from simulator.instrument.quantized import QuantizedModel

Watcher = Callable[[SiteKey, Emulated], None]
"""Called at each quantized site with its key and what it gave."""


class Emulating:
    """Handler of one forward pass: sites in the order in which they ran, what they gave for whoever watches.

    Args:
        quantized: the network.
        watch: sees what each site gave.
        step: the sampler's loop index.
    """

    def __init__(self, quantized: QuantizedModel, watch: Watcher | None, step: int | None) -> None:
        self._quantized, self._watch, self._step = quantized, watch, step
        self.visited: list[SiteKey] = []

    def __call__(self, site: SiteKey, contraction: Contraction, /) -> Tensor:
        """The contraction in its site's arithmetic."""
        found = self._quantized.emulate(site, contraction, self._step)
        self.visited.append(site)
        if self._watch is not None:
            self._watch(site, found)
        return found.output


class EmulatingParts(Emulating):
    """Also takes large attentions whole, and computes them in parts: only where bytes with static scales do."""

    def attention(self, scores: SiteKey, mixture: SiteKey, operation: Attention, /) -> Tensor:
        """The attention, in memory that stays in the cache; a watcher gets the whole scores."""
        kept = None if self._watch is None else operation.empty_scores()
        before, after = (self._quantized.formats(site, self._step) for site in (scores, mixture))
        output, outside_scores, outside_mixture = emulated_attention.attention(operation, before, after, kept)
        self.visited += (scores, mixture)
        if self._watch is not None and kept is not None:
            self._watch(scores, Emulated(kept, outside_scores))
            self._watch(mixture, Emulated(output, outside_mixture))
        return output
