"""What can be kept of sites beside block moments: extremes, moments per channel, moments per sample."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts
from simulator.moments import SIZE, merge, row_moments
from simulator.record import central_moments, is_image, sample_rows


class Extremes:
    """Smallest and largest output of every site at every step, in float and quantized."""

    def __init__(self, steps: int, sites: tuple[SiteFacts, ...]) -> None:
        self._index = {facts.key: index for index, facts in enumerate(sites)}
        self._low, self._high = np.full((2, steps, len(sites)), np.inf), np.full((2, steps, len(sites)), -np.inf)

    def add(self, step: int, site: SiteKey, reference: Tensor, output: Tensor) -> None:
        """Take in one batch; NaN stays."""
        at = (step, self._index[site])
        for which, tensor in enumerate((reference, output)):
            low, high = (bound.item() for bound in tensor.aminmax())
            self._low[which][at] = np.minimum(self._low[which][at], low)
            self._high[which][at] = np.maximum(self._high[which][at], high)

    def arrays(self) -> dict[str, np.ndarray]:
        """By variable, (step, site)."""
        return {
            "site_reference_low": self._low[0], "site_reference_high": self._high[0],
            "site_quantized_low": self._low[1], "site_quantized_high": self._high[1],
        }  # fmt: skip


class ByChannel:
    """Moments per channel of every site's output, pooled over samples: the last axis, or axis 1 of images."""

    def __init__(self, steps: int, sites: tuple[SiteFacts, ...]) -> None:
        self._steps, self._sites = steps, sites
        self._moments: dict[SiteKey, np.ndarray] = {}
        self._sample_axis = {facts.key: facts.sample_axis if facts.batched else None for facts in sites}

    def add(self, step: int, site: SiteKey, reference: Tensor, output: Tensor) -> None:
        """Take in one batch."""
        axis = 1 if is_image(site) else self._axis(site, reference.ndim)
        y, other = (tensor.movedim(axis, 0).flatten(1).contiguous().numpy() for tensor in (reference, output))
        known = self._moments.setdefault(site, np.zeros((self._steps, len(y), SIZE)))
        known[step] = merge(known[step], row_moments(y, other))

    def _axis(self, site: SiteKey, rank: int) -> int:
        """The last axis along which samples do not lie."""
        samples = self._sample_axis[site]
        return rank - 2 if samples == rank - 1 and rank > 1 else rank - 1

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Central moments (step, site_channel, moment); of each site_channel, the site's index and the channel's."""
        found = [self._moments[facts.key] for facts in self._sites]
        site = np.repeat(np.arange(len(found)), [moments.shape[1] for moments in found])
        channel = np.concatenate([np.arange(moments.shape[1]) for moments in found])
        return central_moments(np.concatenate(found, axis=1)), site, channel


class BySample:
    """Moments per sample of every site's output."""

    def __init__(self, steps: int, samples: int, sites: tuple[SiteFacts, ...], passes: int) -> None:
        self._index = {facts.key: index for index, facts in enumerate(sites)}
        self._axes = [facts.sample_axis if facts.batched else None for facts in sites]
        self._passes = passes
        self._moments = np.zeros((steps, len(sites), samples, SIZE))

    def add(self, step: int, members: np.ndarray, site: SiteKey, reference: Tensor, output: Tensor) -> None:
        """Take in one batch."""
        index = self._index[site]
        y, other = (
            sample_rows(tensor, len(members), self._axes[index], self._passes, image=is_image(site))
            for tensor in (reference, output)
        )
        self._moments[step, index, members] = row_moments(y, other)

    def moments(self) -> np.ndarray:
        """Central moments (step, site, sample, moment)."""
        return central_moments(self._moments)
