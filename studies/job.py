"""The main job as a value: what is sampled, under which schemes, with which seeds."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from samplers.errors import BadInput

if TYPE_CHECKING:
    from samplers.sampler import Sampler
    from simulator.models.registry import Model

SAMPLERS = ("ddim", "ddpm")

DEFAULT_SCHEMES = ("w8a8", "w4a8", "w4a4")
DEFAULT_STOCHASTIC_SCHEME = "w4a8"
"""The scheme that the default job also runs at eta = 1, where variance absorption has something to absorb into."""


@dataclass(frozen=True)
class Part:
    """Schemes that share one sampler, and so one full-precision trajectory and one calibration.

    Args:
        sampler: ddim or ddpm.
        eta: DDIM's eta, None for ddpm.
        schemes: ``wXaY`` strings.
    """

    sampler: str
    eta: float | None
    schemes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise BadInput(f"sampler must be one of {', '.join(SAMPLERS)}", got=repr(self.sampler), fix="choose one")
        if (self.eta is None) != (self.sampler == "ddpm"):
            raise BadInput(
                "eta belongs to ddim, and to ddim only",
                got=f"eta={self.eta} with {self.sampler}",
                fix="drop eta, or use ddim",
            )
        if not self.schemes:
            raise BadInput("a part needs at least one scheme", got="none", fix="name one, for instance w8a8")

    @property
    def title(self) -> str:
        """For figures and progress lines."""
        return "DDPM" if self.eta is None else f"DDIM, eta {self.eta:g}"

    def build(self, model: Model, num_inference_steps: int) -> Sampler:
        """The sampler of this part on the model's schedule."""
        from samplers.ddim import DDIM
        from samplers.ddpm import DDPM

        if self.eta is None:
            return DDPM(model.schedule, num_inference_steps, prediction_type=model.prediction_type)
        return DDIM(model.schedule, num_inference_steps, eta=self.eta, prediction_type=model.prediction_type)


@dataclass(frozen=True)
class Job:
    """One invocation of ``qnoise run``.

    Args:
        model: name, ``digits-unet`` or ``digits-unet@1``.
        parts: what to run.
        num_inference_steps: steps of every sampler.
        samples: evaluated samples.
        seed: of evaluation and calibration noise; the two are different streams of it.
        calibration_samples: samples that ranges and corrections are fitted on.
        batch_size: samples per forward pass.
        threads: threads of float operations and kernels.
    """

    model: str
    parts: tuple[Part, ...]
    num_inference_steps: int = 50
    samples: int = 64
    seed: int = 0
    calibration_samples: int = 256
    batch_size: int = 256
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("num_inference_steps", "samples", "calibration_samples", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} must be at least 1", got=getattr(self, name), fix="ask for one or more")
        if self.seed < 0:
            raise BadInput("seed must be at least 0", got=self.seed, fix="use a non-negative integer")

    def config(self, model: Model) -> dict[str, Any]:
        """All that determines the results, as plain JSON values."""
        from simulator.provenance import NUMERICS_VERSION

        return {
            **dataclasses.asdict(self),
            "model": f"{model.name}@{model.version}",
            "weights_digest": model.weights_digest,
            "numerics_version": NUMERICS_VERSION,
        }

    def key(self, model: Model) -> str:
        """SHA-256 of the canonical configuration."""
        from simulator.provenance import canonical

        return hashlib.sha256(canonical(self.config(model)).encode()).hexdigest()


def default_parts() -> tuple[Part, ...]:
    """W8A8, W4A8 and W4A4 by deterministic DDIM, and one of them with eta = 1."""
    return Part("ddim", 0.0, DEFAULT_SCHEMES), Part("ddim", 1.0, (DEFAULT_STOCHASTIC_SCHEME,))
