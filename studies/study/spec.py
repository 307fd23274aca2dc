"""One run of a study as a value: all that determines its bytes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from samplers.errors import BadInput
from samplers.validation import require_int, require_real
from studies.corrections.names import NAMES
from studies.sampler_names import Knobs, build_sampler, read_sampler, spell
from studies.state_names import state_from_text

if TYPE_CHECKING:
    from samplers.sampler import Sampler
    from simulator.instrument.scheme import Scheme
    from simulator.models.conditioning import Conditioning
    from simulator.models.registry import Model
    from studies.recipes.recipe import Recipe

MOST_SAMPLES = 1_000_000
MOST_STEPS = 10_000
MOST_THREADS = 1024
CALIBRATION_SAMPLES = 256
RUNGS = ("weights", "activations", "fake-quant", "integers", "register", "complete")
NO_CORRECTION = "none"


@dataclass(frozen=True)
class RunSpec:
    """One model under one scheme or recipe, one correction, one sampler, one seed.

    Text that names something may be empty for nothing. Names are kept in their canonical spelling.

    Args:
        model: a shipped model, a folder with a slash, or module:factory.
        scheme: a short string or a TOML file; not beside a recipe.
        recipe: a name of ``qnoise methods``, or module:RECIPE.
        bits: of the recipe, such as w4a8.
        rung: how much of the scheme is simulated (``simulator.instrument.rungs``).
        target: a machine of ``simulator.targets`` for a short scheme; part of its spelling afterwards.
        correction: a name of ``studies.corrections.names``, or "none"; of a scheme, since a recipe has its own.
        sampler: name and knobs, as on the command line ("dpm-solver++:solver_order=1").
        num_inference_steps: of the sampler.
        eta: DDIM's, 0 unless given; None for others.
        state: number format of the quantized run's x_t and updates; full precision's if empty.
        conditioning: safetensors file of the samples' conditions.
        guidance: weight of classifier-free guidance.
        seed: of evaluation and calibration noise.
        samples: evaluated.
        calibration_samples: of a scheme's ranges and its correction; 256 unless given. A recipe has its own.
        batch_size: samples per forward pass.
        threads: of float operations and kernels.
        sites: whether each site's noise is recorded.
        keep: samples, the first ones, whose epsilon and noise are kept element by element at every step.

    Raises:
        BadInput: a value that breaks its rule.
    """

    model: str = "digits-unet"
    scheme: str = ""
    recipe: str = ""
    bits: str = ""
    rung: str = "complete"
    target: str = ""
    correction: str = NO_CORRECTION
    sampler: str = "ddim"
    num_inference_steps: int = 50
    eta: float | None = None
    state: str = ""
    conditioning: str = ""
    guidance: float = 1.0
    seed: int = 0
    samples: int = 64
    calibration_samples: int = 0
    batch_size: int = 256
    threads: int = 1
    sites: bool = False
    keep: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "str" and not isinstance(value, str):
                raise BadInput(f"{field.name} must be text", got=repr(value), fix="write it in quotes")
        if not isinstance(self.sites, bool):
            raise BadInput("sites must be true or false", got=repr(self.sites), fix="write true or false")
        for name, least, most in _BOUNDS:
            if require_int(name, getattr(self, name), least) > most:
                raise BadInput(f"{name} must be at most {most}", got=getattr(self, name), fix="make several runs")
        if self.keep > self.samples:
            raise BadInput(
                f"keep must be at most {self.samples}, the run's samples", got=self.keep, fix="keep fewer, or run more"
            )
        self._settle("guidance", require_real("guidance", self.guidance) + 0.0)
        if self.eta is not None:
            self._settle("eta", require_real("eta", self.eta) + 0.0)  # -0 and 0 are one run
        name, eta, knobs = _sampler(self.sampler, self.eta)
        self._settle("sampler", spell(name, None, knobs))
        self._settle("eta", eta)
        if self.state:
            state_from_text(self.state)
        if self.rung not in RUNGS:
            raise BadInput(f"rung must be one of {', '.join(RUNGS)}", got=repr(self.rung), fix="choose one")
        if not self.conditioning and self.guidance != 1:
            raise BadInput("guidance needs conditions", got=f"{self.guidance:g} alone", fix="name conditioning")
        if self.recipe:
            self._check_recipe()
        else:
            self._check_scheme()

    def _check_recipe(self) -> None:
        given = [name for name in ("scheme", "target") if getattr(self, name)]
        given += ["rung"] * (self.rung != "complete") + ["correction"] * (self.correction != NO_CORRECTION)
        if given or self.calibration_samples:
            raise BadInput(
                "a recipe decides on scheme, target, correction and calibration itself",
                got=f"{', '.join(given) or 'calibration_samples'} beside {self.recipe}", fix="drop one",
            )  # fmt: skip
        self._settle("bits", _bits(self.bits))
        _find_recipe(self.recipe)

    def _check_scheme(self) -> None:
        if self.bits:
            raise BadInput("bits belong to a recipe", got=self.bits, fix="name a recipe, or a scheme")
        if not self.scheme:
            raise BadInput("a run needs a scheme or a recipe", got="neither", fix='scheme = "w8a8", say')
        if self.target and (self.scheme.endswith(".toml") or "@" in self.scheme):
            raise BadInput(
                "a target belongs to a short scheme that names none", got=f"{self.target} beside {self.scheme}",
                fix="name it once",
            )  # fmt: skip
        self._settle("scheme", _spelled(f"{self.scheme}@{self.target}" if self.target else self.scheme))
        self._settle("target", "")
        if self.correction not in (NO_CORRECTION, *NAMES):
            raise BadInput(
                f"correction must be one of {', '.join((NO_CORRECTION, *NAMES))}", got=repr(self.correction),
                fix="choose one",
            )  # fmt: skip
        self._settle("calibration_samples", self.calibration_samples or CALIBRATION_SAMPLES)

    def _settle(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def title(self) -> str:
        """For progress lines."""
        what = f"{self.recipe} {self.bits}" if self.recipe else self.scheme
        extras = [self.correction] * (self.correction != NO_CORRECTION) + [self.rung] * (self.rung != "complete")
        eta = "" if self.eta is None else f" eta {self.eta:g}"
        return " ".join([self.model, what, *extras, f"{self.sampler}{eta} {self.num_inference_steps} steps",
                         f"seed {self.seed}"])  # fmt: skip

    def values(self) -> dict[str, Any]:
        """Every field as a plain JSON value: what makes this again."""
        return dataclasses.asdict(self)

    def built_sampler(self, model: Model) -> Sampler:
        """The sampler on the model's schedule."""
        name, eta, knobs = _sampler(self.sampler, self.eta)
        return build_sampler(name, model, self.num_inference_steps, eta, knobs)

    def found_recipe(self) -> Recipe:
        """The recipe, of a run that has one."""
        found: Recipe = _find_recipe(self.recipe)
        return found

    def parsed_scheme(self) -> Scheme:
        """The scheme, of a run without a recipe."""
        return _parsed(self.scheme)

    def conditions(self) -> Conditioning | None:
        """What samples are conditioned on, read from the file."""
        from simulator.models.conditioning import Conditioning

        return Conditioning.from_file(self.conditioning, weight=self.guidance) if self.conditioning else None


_BOUNDS = (
    ("num_inference_steps", 1, MOST_STEPS),
    ("seed", 0, 2**63 - 1),
    ("samples", 1, MOST_SAMPLES),
    ("calibration_samples", 0, MOST_SAMPLES),
    ("batch_size", 1, MOST_SAMPLES),
    ("threads", 1, MOST_THREADS),
    ("keep", 0, MOST_SAMPLES),
)


@lru_cache(maxsize=1024)
def _sampler(text: str, eta: float | None) -> tuple[str, float | None, Knobs]:
    name, found, knobs = read_sampler(text, eta)
    if (found is None) != (name != "ddim"):
        raise BadInput("eta belongs to ddim, and to ddim only", got=f"eta {found} with {name}", fix="drop eta")
    return name, found, knobs


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Scheme:
    from simulator.instrument.scheme import Scheme

    return Scheme.parse(text)


def _spelled(text: str) -> str:
    return text if text.endswith(".toml") else str(_parsed(text))


@lru_cache(maxsize=1024)
def _bits(text: str) -> str:
    from studies.recipes.task import Bits

    return str(Bits.parse(text))


@lru_cache(maxsize=1024)
def _find_recipe(name: str) -> Any:
    from studies.recipes.catalogue import find

    return find(name)
