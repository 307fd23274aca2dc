"""A scheme as a value: settings for all sites, rules for some of them, and the machine they run on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_kind
from simulator.arithmetic.float_formats import BFLOAT16, FLOAT16, FLOAT32, FloatFormat
from simulator.instrument.scheme.settings import Settings
from simulator.targets.description import Target
from simulator.targets.tables import to_table


@dataclass(frozen=True)
class Rule:
    """Settings of the sites that a pattern names, at some or all steps.

    Args:
        sites: patterns, at least one; see ``patterns.py``.
        settings: what they get.
        steps: loop indices as Python's ``range(first, stop)``; None for all steps.

    Raises:
        BadInput: no pattern, nothing set, or steps that hold none.
    """

    sites: tuple[str, ...]
    settings: Settings
    steps: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.sites, str) or not self.sites or not all(isinstance(p, str) and p for p in self.sites):
            raise BadInput("a rule names sites by a tuple of patterns", got=repr(self.sites), fix='write ("*:qk",)')
        require_kind("settings", self.settings, Settings)
        if self.settings == Settings():
            raise BadInput("a rule must set something", got=f"nothing for {self.sites}", fix="drop it")
        if self.steps is not None:
            whole = isinstance(self.steps, tuple) and len(self.steps) == 2 and all(type(n) is int for n in self.steps)
            if not whole or not 0 <= self.steps[0] < self.steps[1]:
                raise BadInput(
                    "steps must be (first, stop) with 0 <= first < stop", got=self.steps, fix="0, 10 are ten steps"
                )

    def holds(self, step: int) -> bool:
        """Whether it applies at this step."""
        return self.steps is None or self.steps[0] <= step < self.steps[1]


@dataclass(frozen=True)
class Scheme:
    """Which site gets what. Later rules win over earlier ones, field by field; all win over ``settings``.

    Args:
        settings: of every site, on top of ``DEFAULTS``.
        rules: of some.
        target: a named machine that replaces accumulators, requantizers and rules; None for exact int32 sums with the
            float32 epilogue of ``simulator.arithmetic.contract``, or what the settings say.
        intermediate: FLOAT32, FLOAT16 or BFLOAT16: format to which float results are rounded after each
            operation (``intermediates.py`` says which); None for the target's, or FLOAT32.
        name: what tables and files call it. The short string where there is one; by default the settings' digest.

    Raises:
        BadInput: another intermediate format, or settings of registers or block formats beside a target.
    """

    settings: Settings = Settings()  # noqa: RUF009 - an immutable value
    rules: tuple[Rule, ...] = ()
    target: Target | None = None
    intermediate: FloatFormat | None = None
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        require_kind("settings", self.settings, Settings)
        if self.target is not None:
            require_kind("target", self.target, Target)
        if not isinstance(self.rules, tuple) or not all(isinstance(rule, Rule) for rule in self.rules):
            raise BadInput("rules must be a tuple of Rule", got=repr(self.rules)[:60], fix="put them in a tuple")
        if self.intermediate not in (None, FLOAT32, FLOAT16, BFLOAT16):
            raise BadInput(
                "intermediates are float32, float16 or bfloat16", got=self.intermediate, fix="choose one of them"
            )
        if self.target is not None:
            for settings in (self.settings, *(rule.settings for rule in self.rules)):
                for name in ("accumulator", "group_register", "requantizer", "rounding", "block"):
                    if getattr(settings, name) is not None and (name, settings.block) != ("block", "integers"):
                        raise BadInput(
                            f"the target {self.target} states {name} itself",
                            got=getattr(settings, name),
                            fix="drop one of the two, or make a target of your own in TOML",
                        )
        if not self.name:
            from simulator.instrument.scheme.short_string import spell  # it parses to a Scheme

            object.__setattr__(self, "name", spell(self))

    @classmethod
    def parse(cls, text: str) -> Scheme:
        """Read a short string such as ``w4g64a8o16-acc20``, or the TOML file that a path ending in ``.toml`` names.

        Raises:
            BadInput: another form, or a setting that no site can have.
        """
        require_kind("scheme", text, str)
        if text.strip().endswith(".toml"):
            return cls.load(text.strip())
        from simulator.instrument.scheme.short_string import read

        return read(text)

    @classmethod
    def load(cls, path: str | Path) -> Scheme:
        """Read a TOML file (``toml.py``).

        Raises:
            BadInput: no such file, or a table that is no scheme.
        """
        from simulator.instrument.scheme.toml import load

        return load(path)

    @property
    def float_format(self) -> FloatFormat:
        """Format of intermediates."""
        return self.intermediate or (self.target.intermediate if self.target else FLOAT32)

    @property
    def requantizes(self) -> bool:
        """Whether some site has requantized outputs, whose ranges must be calibrated too."""
        return any(s.output_bits for s in (self.settings, *(rule.settings for rule in self.rules)))

    @property
    def has_steps(self) -> bool:
        """Whether a rule holds at some steps only."""
        return any(rule.steps is not None for rule in self.rules)

    @property
    def is_short(self) -> bool:
        """Whether its name is a short string that says all of it."""
        from simulator.instrument.scheme.short_string import spell

        return self.name == spell(self) and not self.name.startswith("custom-")

    def config(self) -> dict[str, Any]:
        """All that determines the scheme, as plain JSON values; fields that are not set are left out."""
        rules = [
            {"sites": list(rule.sites), **_stated(rule.settings)} | ({"steps": list(rule.steps)} if rule.steps else {})
            for rule in self.rules
        ]
        machine = {"target": to_table(self.target)} if self.target else {}
        return {
            "settings": _stated(self.settings),
            "rules": rules,
            "intermediate": "target's" if self.intermediate is None else str(self.intermediate),
            **machine,
        }

    def renamed(self, name: str) -> Scheme:
        """The same scheme under another name."""
        return replace(self, name=name)

    def __str__(self) -> str:
        return self.name


def _stated(settings: Settings) -> dict[str, Any]:
    return {name: value for name, value in to_table(settings).items() if value != "none"}
