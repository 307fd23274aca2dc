"""The main job as a value: what is sampled, under which schemes, with which seeds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from samplers.errors import BadInput
from studies.sampler_names import Knobs, build_sampler, require_sampler, title
from studies.state_names import state_from_text

if TYPE_CHECKING:
    from samplers.sampler import Sampler
    from simulator.models.conditioning import Conditioning
    from simulator.models.registry import Model

DEFAULT_SCHEMES = ("w8a8", "w4a8", "w4a4")
DEFAULT_STOCHASTIC_SCHEME = "w4a8"
"""The scheme that the default job also runs at eta = 1, where variance absorption has something to absorb into."""


MOST_SAMPLES = 1_000_000
MOST_THREADS = 1024


@dataclass(frozen=True)
class Part:
    """Schemes that share one sampler, and so one full-precision trajectory and one calibration.

    Args:
        sampler: one of ``studies.sampler_names.SAMPLERS``.
        eta: DDIM's eta, None for the others.
        schemes: short strings, kept in their canonical spelling, or paths of TOML files; each once.
        knobs: other arguments of the sampler by diffusers' names, in order of names; of the key only where there are
            any.
    """

    sampler: str
    eta: float | None
    schemes: tuple[str, ...]
    knobs: Knobs = ()

    def __post_init__(self) -> None:
        from simulator.instrument.scheme import Scheme

        require_sampler(self.sampler)
        if (self.eta is None) != (self.sampler != "ddim"):
            raise BadInput(
                "eta belongs to ddim, and to ddim only",
                got=f"eta={self.eta} with {self.sampler}",
                fix="drop eta, or use ddim",
            )
        if self.eta is not None:
            object.__setattr__(self, "eta", self.eta + 0.0)  # -0 and 0 are one job
        spelled = (text if text.endswith(".toml") else str(Scheme.parse(text)) for text in self.schemes)
        object.__setattr__(self, "schemes", tuple(spelled))
        if len(set(self.schemes)) < len(self.schemes):
            raise BadInput("schemes must differ", got=", ".join(self.schemes), fix="name each once")
        if not self.schemes:
            raise BadInput("a part needs at least one scheme", got="none", fix="name one, for instance w8a8")

    @property
    def title(self) -> str:
        """For figures and progress lines."""
        return title(self.sampler, self.eta, self.knobs)

    def build(self, model: Model, num_inference_steps: int) -> Sampler:
        """The sampler of this part on the model's schedule."""
        return build_sampler(self.sampler, model, num_inference_steps, self.eta, self.knobs)

    def config(self) -> dict[str, Any]:
        """As plain values, knobs only where there are any."""
        values = dataclasses.asdict(self)
        knobs = values.pop("knobs")
        return {**values, "knobs": dict(knobs)} if knobs else values


_ELSEWHERE = ("conditioning", "guidance", "state")
"""Fields that enter the configuration by their content, or only where they are given."""


@dataclass(frozen=True)
class Job:
    """One invocation of ``qnoise run``.

    Args:
        model: name, ``digits-unet`` or ``digits-unet@1``; a path with a slash; or ``module:factory``.
        parts: what to run.
        num_inference_steps: steps of every sampler.
        samples: evaluated samples.
        seed: of evaluation and calibration noise; the two are different streams of it.
        calibration_samples: samples that ranges and corrections are fitted on.
        batch_size: samples per forward pass.
        threads: threads of float operations and kernels.
        conditioning: safetensors file of the samples' conditions, None for none.
        guidance: weight of classifier-free guidance; 1 without conditions.
        state: number format of the quantized runs' x_t and updates (``studies.state_names``), None for full
            precision's.
    """

    model: str
    parts: tuple[Part, ...]
    num_inference_steps: int = 50
    samples: int = 64
    seed: int = 0
    calibration_samples: int = 256
    batch_size: int = 256
    threads: int = 1
    conditioning: str | None = None
    guidance: float = 1.0
    state: str | None = None

    def __post_init__(self) -> None:
        if self.state is not None:
            state_from_text(self.state)
        for name in ("num_inference_steps", "samples", "calibration_samples", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} must be at least 1", got=getattr(self, name), fix="ask for one or more")
        for name in ("samples", "calibration_samples"):
            if getattr(self, name) > MOST_SAMPLES:
                raise BadInput(
                    f"{name} must be at most {MOST_SAMPLES}, since moments of every sample are kept in memory",
                    got=getattr(self, name),
                    fix="make several runs with other seeds",
                )
        if self.threads > MOST_THREADS:
            raise BadInput(f"threads must be at most {MOST_THREADS}", got=self.threads, fix="use the number of cores")
        if self.conditioning is None and self.guidance != 1:
            raise BadInput(
                "guidance needs conditions", got=f"--guidance {self.guidance:g} alone", fix="add --conditioning"
            )
        if not 0 <= self.seed < 2**63:
            raise BadInput("seed must be at least 0 and below 2**63", got=self.seed, fix="use such an integer")

    def config(self, model: Model) -> dict[str, Any]:
        """All that determines the results, as plain JSON values; of conditions their digests, not their file."""
        from simulator.instrument.scheme import Scheme
        from simulator.models.conditioning import conditioning_config
        from simulator.provenance import model_config

        files = sorted({text for part in self.parts for text in part.schemes if text.endswith(".toml")})
        schemes = {"schemes": {text: Scheme.parse(text).config() for text in files}} if files else {}
        own = {name: v for name, v in dataclasses.asdict(self).items() if name not in _ELSEWHERE}
        own["parts"] = [part.config() for part in self.parts]
        conditions = conditioning_config(self.conditions())
        unshipped = self._unshipped(model)
        state = {} if self.state is None else {"state": self.state}
        return {**own, **model_config(model), **unshipped, **schemes, **conditions, **state, "threads": self.threads}

    def conditions(self) -> Conditioning | None:
        """What samples are conditioned on, read from the file."""
        from simulator.models.conditioning import Conditioning

        return None if self.conditioning is None else Conditioning.from_file(self.conditioning, weight=self.guidance)

    def _unshipped(self, model: Model) -> dict[str, Any]:
        """What a shipped model's version fixes, and another's name and weights do not."""
        from samplers.schedule import require_schedule
        from simulator.models.loading import is_factory, is_folder

        if not is_folder(self.model) and not is_factory(self.model):
            return {}
        return {
            "schedule": require_schedule(model.schedule).config(),
            "prediction_type": model.prediction_type,
            "sample_shape": list(model.sample_shape),
        }

    def key(self, model: Model) -> str:
        """SHA-256 of the canonical configuration."""
        from simulator.provenance import run_key

        return run_key(self.config(model))


def default_parts() -> tuple[Part, ...]:
    """W8A8, W4A8 and W4A4 by deterministic DDIM, and one of them with eta = 1."""
    return Part("ddim", 0.0, DEFAULT_SCHEMES), Part("ddim", 1.0, (DEFAULT_STOCHASTIC_SCHEME,))
