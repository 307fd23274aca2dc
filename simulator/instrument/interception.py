"""Turn torch calls into named contractions.

A function mode sees each call before torch decomposes it. ``translations.py`` maps a torch function to the contractions
it is; a handler then decides what to do with each (observe, keep, emulate). Other calls run as they are; if one of them
contains a contraction, the audit (``audit.py``) stops the run and names it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from samplers.errors import BadInput
from simulator.instrument.allowance import Allowance
from simulator.instrument.attention import inside_multi_head_attention, multi_head_attention_body
from simulator.instrument.attention_parts import Attention, attention_in_float
from simulator.instrument.audit import inside_site
from simulator.instrument.contractions import Contraction
from simulator.instrument.sites import ModuleStack, SiteKey
from simulator.instrument.translations import AS_ONE, LEAVES_TORCH, TRANSLATIONS, Translation

_signature = lru_cache(maxsize=None)(inspect.signature)
_is_wrapped: Callable[[Tensor], bool] = torch._C._functorch.is_functorch_wrapped_tensor
_NO_DISPATCH = torch._C._disabled_torch_dispatch_impl
_SPECIAL = AS_ONE | LEAVES_TORCH | {F.multi_head_attention_forward}

Allowed = Callable[[SiteKey, Contraction], None]


class Handler(Protocol):
    """What happens at a site."""

    def __call__(self, site: SiteKey, contraction: Contraction, /) -> Tensor:
        """Return the contraction's result."""
        ...


@runtime_checkable
class AttentionHandler(Handler, Protocol):
    """A handler that may also be given a whole attention, to compute it in parts."""

    def attention(self, scores: SiteKey, mixture: SiteKey, operation: Attention, /) -> Tensor:
        """Return the attention's result; the two sites are those of QK^T and P V."""
        ...


class InFloat:
    """Handler that computes everything in torch float, large attentions in parts."""

    def __call__(self, site: SiteKey, contraction: Contraction, /) -> Tensor:
        """The contraction in float."""
        return contraction.float()

    def attention(self, scores: SiteKey, mixture: SiteKey, operation: Attention, /) -> Tensor:
        """The attention in float."""
        return attention_in_float(operation)


class Interceptor(TorchFunctionMode):
    """Route every contraction of the code under it through ``handler``.

    Args:
        handler: what happens at a site.
        stack: names the sites.
        allowance: sites that stay in float do not reach the handler.
        allowed: hears of each such site.
    """

    def __init__(
        self, handler: Handler, stack: ModuleStack, allowance: Allowance | None = None, allowed: Allowed | None = None
    ) -> None:
        super().__init__()
        self._handler, self._stack = handler, stack
        self._allowance, self._allowed = allowance or Allowance(), allowed
        self._local: dict[Callable[..., Any], Translation] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Called by torch for each function; contractions go to the handler."""
        kwargs = kwargs or {}
        translate = self._local.get(func) or TRANSLATIONS.get(func)
        if translate is not None:
            try:
                for operand in (*args, *kwargs.values()):
                    self._require_plain(operand)
                return _filled(translate, self, args, kwargs) if kwargs else translate(self, *args)
            except BadInput:
                if not self._allowance.module(self._stack.path):
                    raise
                return self._as_one(func, args, kwargs)  # no form of this project's, but it may stay in float
        if func not in _SPECIAL:
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return self._multi_head_attention(args, kwargs)
        if func in AS_ONE:
            return self._as_one(func, args, kwargs)
        self._allowance.let_through(f"Tensor.{func.__name__}", self._stack.path, opaque=True)
        return func(*args, **kwargs)

    def __call__(self, operation: str, contraction: Contraction, /) -> Tensor:
        """Run one contraction at the next site of ``operation``.

        Raises:
            BadInput: operands that are not float32 on the CPU, or autocast.
        """
        return self._run(self._stack.next_site(operation), contraction)

    def _run(self, site: SiteKey, contraction: Contraction) -> Tensor:
        if self._allowance.site(site):
            if self._allowed is not None:
                self._allowed(site, contraction)
            with inside_site():
                return contraction.float()
        self._require_emulated(site, contraction.operands())
        with inside_site():
            return self._handler(site, contraction)

    def attention(self, operation: Attention, /) -> Tensor:
        """Run an attention: in parts where it is large and the handler takes it whole, else product by product.

        Raises:
            BadInput: operands that are not float32 on the CPU, or autocast.
        """
        sites = self._stack.next_site("qk"), self._stack.next_site("pv")
        in_float = any(self._allowance.site(site) for site in sites)
        if in_float or not isinstance(self._handler, AttentionHandler) or not operation.divisible:
            scores = self._run(sites[0], operation.scores)
            return self._run(sites[1], operation.mixture(operation.weights(scores)))
        self._require_emulated(sites[0], (operation.query, operation.key, operation.value))
        with inside_site():
            return self._handler.attention(*sites, operation)

    def is_constant(self, tensor: Tensor, /) -> bool:
        """Whether the tensor shares memory with a parameter or buffer of the watched module."""
        return self._stack.is_constant(tensor)

    def _require_emulated(self, site: SiteKey, operands: tuple[Tensor, ...]) -> None:
        if torch.is_autocast_enabled("cpu"):
            raise BadInput("emulation has no autocast", got=f"autocast at {site}", fix="run the model in float32")
        for tensor in operands:
            if tensor.dtype != torch.float32 or tensor.device.type != "cpu" or tensor.layout != torch.strided:
                raise BadInput(
                    "operands must be dense float32 tensors on the CPU",
                    got=f"{tensor.dtype} {tensor.layout} on {tensor.device} at {site}",
                    fix="convert the model with .float().cpu()",
                )

    def _as_one(self, func: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        """A function that may stay in float, under its own name."""
        self._allowance.let_through(f"torch.{func.__name__}", self._stack.path)
        with inside_site():
            return func(*args, **kwargs)

    def _require_plain(self, operand: Any) -> None:
        if not isinstance(operand, Tensor):
            return
        if operand.is_nested or _is_wrapped(operand) or type(operand).__torch_dispatch__ is not _NO_DISPATCH:
            kind = "nested" if operand.is_nested else "under vmap" if _is_wrapped(operand) else type(operand).__name__
            raise BadInput(
                "operands must be plain tensors",
                got=f"a tensor that is {kind}, in module {self._stack.path!r}",
                fix="use padded float32 tensors, and batched operations in place of vmap",
            )

    def _multi_head_attention(self, args: tuple, kwargs: dict) -> Any:
        before, self._local = self._local, inside_multi_head_attention()
        try:
            with self:
                return multi_head_attention_body(*args, **kwargs)
        finally:
            self._local = before


def _filled(translate: Translation, run: Interceptor, args: tuple, kwargs: dict) -> Tensor:
    """The translation with keywords; the result goes to ``out`` where one is given.

    Raises:
        BadInput: a keyword that the translation does not have, such as another output dtype.
    """
    into = kwargs.get("out")
    kwargs = {name: value for name, value in kwargs.items() if name != "out"}
    try:
        _signature(translate).bind(run, *args, **kwargs)
    except TypeError as error:
        raise BadInput("this form of the call is not emulated", got=str(error), fix="use positional operands") from None
    found = translate(run, *args, **kwargs)
    return found if into is None else into.resize_(found.shape).copy_(found)
