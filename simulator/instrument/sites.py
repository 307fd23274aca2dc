"""Where a contraction happens: its name in every table."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from samplers.errors import BadInput


@dataclass(frozen=True, order=True)
class SiteKey:
    """One contraction of a forward pass: module path, operation, and which call of that pair it is."""

    module: str
    operation: str
    call: int = 0

    def __str__(self) -> str:
        name = f"{self.module}:{self.operation}" if self.module else self.operation
        return f"{name}#{self.call}" if self.call else name


_watched = threading.local()


class ModuleStack:
    """The path of the module whose forward is running, kept by forward hooks; names sites in call order."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._calls: Counter[tuple[str, str]] = Counter()
        self._thread = threading.get_ident()

    def restart(self) -> None:
        """Begin a forward pass on this thread."""
        self._thread = threading.get_ident()
        self._paths.clear()
        self._calls.clear()

    @property
    def path(self) -> str:
        """Path of the innermost running module, "" outside any."""
        return self._paths[-1] if self._paths else ""

    def next_site(self, operation: str) -> SiteKey:
        """Key of the contraction that is about to run."""
        call = self._calls[self.path, operation]
        self._calls[self.path, operation] += 1
        return SiteKey(self.path, operation, call)

    def enter(self, path: str) -> Callable[[nn.Module, tuple], None]:
        """A forward pre-hook of the module at ``path``; returns None, so that no argument is replaced."""

        def hook(module: nn.Module, args: tuple) -> None:
            if threading.get_ident() != self._thread:
                raise BadInput(
                    "a network must run on the thread that calls it",
                    got=f"module {path!r} on another thread",
                    fix="torch's modes see one thread only: call the module directly",
                )
            self._paths.append(path)

        return hook

    def leave(self, module: nn.Module, args: tuple, output: object) -> None:
        """Forward hook of every module."""
        if self._paths:  # a hook that refused has pushed nothing
            self._paths.pop()


@contextmanager
def watching(module: nn.Module) -> Iterator[ModuleStack]:
    """Follow ``module`` through hooks, which are removed at the end; inside another such block, that one's stack.

    Hooks cost as much to install as a small forward pass does to run, so a loop of passes opens one block around all.
    """
    stacks: dict[int, ModuleStack] = _watched.__dict__.setdefault("stacks", {})
    if id(module) in stacks:
        yield stacks[id(module)]
        return
    stack = stacks[id(module)] = ModuleStack()
    handles = []
    for path, child in module.named_modules():
        handles.append(child.register_forward_pre_hook(stack.enter(path), prepend=True))
        handles.append(child.register_forward_hook(stack.leave, always_call=True))
    try:
        yield stack
    finally:
        del stacks[id(module)]
        for handle in handles:
            handle.remove()
