"""A folder that holds what is done of a reconstruction, unit by unit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from samplers.errors import BadInput
from simulator.calibration.reconstruction.learning import UnitLog
from simulator.models.checkpoint import read_tensors, write_bytes, write_tensors

_CONFIG, _TIMES = "reconstruction.json", "times.json"


class Checkpoint:
    """One file for each unit and phase; none of them holds a time.

    Args:
        folder: made if missing; None keeps nothing.
        config: of the reconstruction, plain JSON values.

    Raises:
        BadInput: a folder of another reconstruction, or one that cannot be made.
    """

    def __init__(self, folder: str | Path | None, config: dict[str, Any]) -> None:
        self._folder = None if folder is None else Path(folder)
        self.times: dict[str, float] = {}
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(
                "folder must be one that can be made", got=f"{folder} ({error})", fix="name another"
            ) from error
        stated, own = self._folder / _CONFIG, (json.dumps(config, indent=1, sort_keys=True) + "\n").encode()
        if stated.exists() and stated.read_bytes() != own:
            raise BadInput(
                "a checkpoint continues only the reconstruction that wrote it", got=f"{folder} of another",
                fix="choose another folder",
            )  # fmt: skip
        write_bytes(stated, own)
        if (self._folder / _TIMES).exists():
            self.times = json.loads((self._folder / _TIMES).read_text())

    def read(self, phase: str, index: int) -> tuple[dict[str, Tensor], UnitLog] | None:
        """What was kept of a unit; None if it is still to be done.

        Raises:
            BadInput: a file that is truncated or no checkpoint.
        """
        if self._folder is None or not (path := self._path(phase, index)).exists():
            return None
        groups, facts = read_tensors(path)
        return groups.get("kept", {}), UnitLog(**{**facts, "sites": tuple(facts["sites"])})

    def write(self, index: int, kept: dict[str, Tensor], log: UnitLog, seconds: float) -> None:
        """Keep what was found of a unit."""
        self.times[f"{log.phase} {log.unit}"] = seconds
        if self._folder is None:
            return
        write_tensors(self._path(log.phase, index), {"kept": kept}, log.config())
        write_bytes(self._folder / _TIMES, (json.dumps(self.times, indent=1) + "\n").encode())

    def _path(self, phase: str, index: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{phase}-{index:03d}.safetensors"
