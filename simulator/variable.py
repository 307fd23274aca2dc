"""What is said of a stored variable."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """One variable of a run's dataset."""

    name: str
    dims: tuple[str, ...]
    unit: str
    long_name: str
    definition: str

    @property
    def attrs(self) -> dict[str, str]:
        """Attributes stored with the variable."""
        return {"units": self.unit, "long_name": self.long_name, "definition": self.definition}


INJECTED = "both networks see the full-precision trajectory's x_t"
