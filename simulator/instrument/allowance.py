"""Which modules may stay in float, and what ran there: named by the caller, recorded, never silent."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase

from samplers.errors import QnoiseError
from simulator.instrument.sites import SiteKey


class UncoveredContraction(QnoiseError, RuntimeError):
    """Something ran that no site covers, so part of the network would have stayed in float.

    ``operation`` and ``module`` name it; ``opaque`` says that nobody can see what it computes.
    """

    def __init__(self, operation: str, module: str, *, opaque: bool = False) -> None:
        self.operation, self.module, self.opaque = operation, module, opaque
        where = module or "(root)"
        rule = "nothing may run where it cannot be seen" if opaque else "every contraction must run at a site"
        super().__init__(
            f"{rule}, got {operation} in module {where!r}; write it with torch.matmul, torch.einsum, F.linear, "
            "F.conv2d or F.scaled_dot_product_attention, or name the module in allow_float"
        )


Note = Callable[[str, str, bool], None]
"""Called with (operation, module, opaque) for everything that was let through."""


class Allowance:
    """Patterns (``fnmatch``) of site names and module paths that may run in float; a module allows those inside it.

    Args:
        patterns: for instance ``("encoder.rnn", "decoder.*")``; ``"*"`` allows all.
        note: hears of everything that was let through.

    ``refused`` keeps the last refusal: a network may catch the exception, and TorchScript wraps it in its own.
    """

    def __init__(self, patterns: tuple[str, ...] = (), note: Note | None = None) -> None:
        self.patterns = tuple(patterns)
        self._note = note
        self.refused: UncoveredContraction | None = None

    def site(self, site: SiteKey) -> bool:
        """Whether this site may stay in float."""
        return bool(self.patterns) and (self._matches(str(site)) or self.module(site.module))

    def module(self, path: str) -> bool:
        """Whether everything in this module may."""
        parts = path.split(".")
        return bool(self.patterns) and any(self._matches(".".join(parts[:n])) for n in range(1, len(parts) + 1))

    def let_through(self, operation: str, module: str, *, opaque: bool = False) -> None:
        """Note what is about to run outside a site.

        Raises:
            UncoveredContraction: its module is not allowed to.
        """
        if not self.module(module):
            self.refused = UncoveredContraction(operation, module, opaque=opaque)
            raise self.refused
        if self._note is not None:
            self._note(operation, module, opaque)

    def _matches(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)
