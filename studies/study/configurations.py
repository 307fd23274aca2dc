"""Configurations of runs, and the keys that are their digests."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from samplers.schedule import require_schedule
from simulator.models.conditioning import conditioning_config
from simulator.models.loading import is_factory, is_folder, load
from simulator.models.registry import Model
from simulator.provenance import model_config, run_key
from studies.study.spec import RunSpec


class Configurations:
    """All that determines the bytes of runs; models are loaded once.

    Args:
        models: how many models are kept loaded.
    """

    def __init__(self, models: int = 2) -> None:
        self.load = lru_cache(maxsize=models)(load)
        self._facts = lru_cache(maxsize=models)(self._model_facts)

    def config(self, spec: RunSpec) -> dict[str, Any]:
        """As plain JSON values, files by their contents.

        Raises:
            BadInput: the model or the conditions cannot be had.
        """
        own = {name: value for name, value in spec.values().items() if name != "conditioning"}
        if spec.scheme.endswith(".toml"):
            own["scheme_config"] = spec.parsed_scheme().config()
        if spec.recipe:
            own["recipe_config"] = spec.found_recipe().config()
        conditions = conditioning_config(spec.conditions())
        return {**own, **self._facts(spec.model), **conditions, "threads": spec.threads}

    def key(self, spec: RunSpec) -> str:
        """SHA-256 of the canonical configuration: the name of the run's file."""
        return run_key(self.config(spec))

    def _model_facts(self, name: str) -> dict[str, Any]:
        model: Model = self.load(name)
        if not is_folder(name) and not is_factory(name):
            return model_config(model)
        facts = {
            "schedule": require_schedule(model.schedule).config(),
            "prediction_type": model.prediction_type,
            "sample_shape": list(model.sample_shape),
        }
        return {**model_config(model), "model_facts": facts}
