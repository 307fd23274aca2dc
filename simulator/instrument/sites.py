"""Where a contraction happens: its name in every table."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks

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

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._paths: list[str] = []
        self._calls: Counter[tuple[str, str]] = Counter()
        self._thread = threading.get_ident()
        self._constants: set[int] | None = None
        self.on_script: Callable[[str], None] = _ignore

    def restart(self, on_script: Callable[[str], None] | None = None) -> None:
        """Begin a forward pass on this thread; ``on_script`` hears of each scripted module that runs."""
        self._thread = threading.get_ident()
        self._paths.clear()
        self._calls.clear()
        self._constants = None
        self.on_script = on_script or _ignore

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether the tensor lies in the memory of a parameter or buffer, as views and expansions of one do."""
        if self._constants is None:
            held = (*self._module.parameters(), *self._module.buffers())
            self._constants = {_address(t) for t in held if t.layout == torch.strided}
        return tensor.layout == torch.strided and _address(tensor) in self._constants

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
    stack = stacks[id(module)] = ModuleStack(module)
    handles: list = []
    scripted: dict[int, str] = {}
    for path, child in module.named_modules():
        if isinstance(child, torch.jit.ScriptModule):
            scripted[id(child)] = path
            continue
        handles.append(child.register_forward_pre_hook(stack.enter(path), prepend=True))
        handles.append(child.register_forward_hook(stack.leave, always_call=True))
    if scripted:
        handles += _watch_scripted(stack, scripted)
    try:
        yield stack
    finally:
        del stacks[id(module)]
        for handle in handles:
            handle.remove()


def _watch_scripted(stack: ModuleStack, scripted: dict[int, str]) -> list:
    """Hooks for modules that take none of their own: global ones, which look their module up."""

    def enter(module: nn.Module, args: tuple) -> None:
        if (path := scripted.get(id(module))) is not None:
            stack.enter(path)(module, args)
            stack.on_script(path)

    def leave(module: nn.Module, args: tuple, output: object) -> None:
        if id(module) in scripted:
            stack.leave(module, args, output)

    return [
        module_hooks.register_module_forward_pre_hook(enter),
        module_hooks.register_module_forward_hook(leave, always_call=True),
    ]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _ignore(path: str) -> None:
    """Nothing to do for a scripted module."""
