"""What quantizing one site alone costs: at the network's output, and at the site's own."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from samplers.errors import BadInput
from simulator.calibration.intervals.observation import one_timestep_batches
from simulator.instrument.contractions import Contraction
from simulator.instrument.forward import forward
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme.scheme import Rule, Scheme
from simulator.instrument.scheme.settings import Settings
from simulator.instrument.sites import SiteKey, watching
from simulator.models.conditioning import call_for


@dataclass(frozen=True)
class SiteNoise:
    """Signal and noise of each site at each timestep, summed over samples and elements.

    Attributes:
        sites: of the rows.
        timesteps: float64 (T,), ascending.
        signal: sum y^2, (sites, T).
        noise: sum (y_quantized - y)^2, (sites, T).
    """

    sites: tuple[SiteKey, ...]
    timesteps: np.ndarray
    signal: np.ndarray
    noise: np.ndarray

    def sqnr_db(self) -> np.ndarray:
        """``10 log10(sum y^2 / sum e^2)``, (sites, T); +inf without noise."""
        with np.errstate(divide="ignore"):
            return 10 * (np.log10(self.signal) - np.log10(self.noise))

    def amplitude_ratio(self) -> np.ndarray:
        """PTQD's SNR^Q, ``||y|| / ||e||``, (sites, T): a ratio of norms, not of powers; +inf without noise."""
        return np.asarray(10 ** (self.sqnr_db() / 20))

    def pooled(self) -> dict[SiteKey, float]:
        """Noise over signal, powers pooled over timesteps, by site: larger is more sensitive."""
        ratio = self.noise.sum(axis=1) / self.signal.sum(axis=1)
        return dict(zip(self.sites, ratio.tolist(), strict=True))


def quantize_only(scheme: Scheme, site: SiteKey, sites: Sequence[SiteKey]) -> Scheme:
    """A scheme that treats one site as ``scheme`` does and leaves all others in float.

    Args:
        scheme: what the site gets.
        site: one of ``sites``.
        sites: every site of the network.

    Raises:
        BadInput: a site that is not among them.
    """
    if site not in sites:
        raise BadInput("the site must be one of the network's", got=str(site), fix="name one of its sites")
    rules = [
        *scheme.rules, Rule(("*",), Settings(keep_float=True)),
        Rule((glob.escape(str(site)),), Settings(keep_float=False)),
    ]  # fmt: skip
    # the name of a first call names the later ones too
    calls = [other for other in sites if (other.module, other.operation) == (site.module, site.operation)]
    later = tuple(glob.escape(str(other)) for other in calls if other.call)
    if not site.call and later:
        rules.append(Rule(later, Settings(keep_float=True)))
    return replace(scheme, rules=tuple(rules), name=f"{scheme}-only-{site}")


def one_at_a_time(
    quantized: QuantizedModel,
    x: Tensor,
    timestep: Tensor,
    *,
    step: Tensor | None = None,
    samples: Sequence[int] | None = None,
    sites: Sequence[SiteKey] | None = None,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> SiteNoise:
    """Noise at the network's output with one site quantized and all others in float, as ``quantize_only`` has it.

    A site's weights are prepared once for all passes; the whole takes about sites + 1 passes over the data. The float
    reference runs through the same handler, so that a site in float has no noise.

    Args:
        quantized: the network under the complete scheme.
        x: float32 (n, *sample_shape).
        timestep: (n,), of each.
        step: loop index of each, where the scheme or its ranges depend on it.
        samples: index of each sample for its conditions; 0 to n - 1 by default.
        sites: which; all by default.
        batch_size: samples per forward pass; passes hold one timestep.
        progress: called after each pass with (passes done, passes in all).

    Raises:
        BadInput: data of another form, an unknown site, or a timestep with two steps.
    """
    every = tuple(facts.key for facts in quantized.sites)
    chosen = every if sites is None else tuple(sites)
    for site in set(chosen) - set(every):
        raise BadInput("sites must be the network's", got=str(site), fix="name its sites")
    passes = _Passes(quantized, x, timestep, step, samples, batch_size)
    signal, noise = (np.zeros((len(chosen), len(passes.timesteps))) for _ in range(2))
    total = len(passes.groups) * (len(chosen) + 1)
    with watching(quantized.model.module):
        for done, (column, rows, at) in enumerate(passes.groups):
            reference = passes.run(rows, lambda site, c: c.float(), audit=True).double()
            signal[:, column] += float((reference * reference).sum())
            for row, alone in enumerate(chosen):

                def handle(site: SiteKey, c: Contraction, alone: SiteKey = alone, at: int | None = at) -> Tensor:
                    return quantized.emulate(site, c, at).output if site == alone else c.float()

                error = passes.run(rows, handle, audit=False).double() - reference
                noise[row, column] += float((error * error).sum())
                if progress is not None:
                    progress(done * (len(chosen) + 1) + row + 2, total)
    return SiteNoise(chosen, passes.timesteps, signal, noise)


def layer_noise(
    quantized: QuantizedModel,
    x: Tensor,
    timestep: Tensor,
    *,
    step: Tensor | None = None,
    samples: Sequence[int] | None = None,
    batch_size: int = 64,
) -> SiteNoise:
    """Noise of each site's own output: the operation alone quantized, on float operands; one pass for all sites.

    Arguments and errors as :func:`one_at_a_time`.
    """
    passes = _Passes(quantized, x, timestep, step, samples, batch_size)
    sites = tuple(facts.key for facts in quantized.sites)
    signal, noise = (np.zeros((len(sites), len(passes.timesteps))) for _ in range(2))
    with watching(quantized.model.module):
        for column, rows, at in passes.groups:

            def handle(site: SiteKey, c: Contraction, column: int = column, at: int | None = at) -> Tensor:
                output = c.float()
                error = (quantized.emulate(site, c, at).output - output).double()
                row = sites.index(site)
                signal[row, column] += float((output.double() ** 2).sum())
                noise[row, column] += float((error**2).sum())
                return output

            passes.run(rows, handle, audit=True)
    return SiteNoise(sites, passes.timesteps, signal, noise)


class _Passes:
    """Batches of one timestep, and how to run them."""

    def __init__(
        self, quantized: QuantizedModel, x: Tensor, timestep: Tensor, step: Tensor | None,
        samples: Sequence[int] | None, batch_size: int,
    ) -> None:  # fmt: skip
        self._quantized, self._x, self._timestep = quantized, x, timestep
        self._members = np.arange(len(x)) if samples is None else np.asarray(samples)
        batches = list(one_timestep_batches(x, timestep, batch_size))
        self.timesteps = np.array(sorted({time for time, _ in batches}))
        self.groups = [
            (int(np.searchsorted(self.timesteps, time)), rows, _one_step(step, rows)) for time, rows in batches
        ]

    @torch.no_grad()
    def run(self, rows: np.ndarray, handler: Callable[[SiteKey, Contraction], Tensor], *, audit: bool) -> Tensor:
        """The network's output for these rows."""
        q = self._quantized
        call = call_for(q.model, q.conditioning, self._members[rows])
        return forward(
            q.model.module, handler, self._x[rows], self._timestep[rows], call=call, audit=audit,
            allow_float=q.allow_float,
        )  # fmt: skip


def _one_step(step: Tensor | None, rows: np.ndarray) -> int | None:
    if step is None:
        return None
    found = {int(s) for s in step[rows]}
    if len(found) != 1:
        raise BadInput("a timestep must have one step", got=sorted(found), fix="use points of one sampler")
    return found.pop()
