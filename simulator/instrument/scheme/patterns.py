"""Patterns that name sites of a network.

A pattern is a glob (``fnmatch``) of a site's name (``blocks.0.attn:qk``; with ``#1`` for the second call alone, without
it for every call), or of a module's path, which names every site inside. ``@`` introduces what any network has:
``@first`` (the weighted layer that reads the sample), ``@last``, ``@attention`` (``@qk`` and ``@pv``), ``@weights``
(every contraction with a weight), and the attention projections ``@query``, ``@key``, ``@value`` and ``@output``, found
by the customary names of their layers (``to_q``, ``q_proj``, ``query``, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from samplers.errors import BadInput
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts

FIRST, LAST, ATTENTION = "@first", "@last", "@attention"

_PROJECTIONS = {
    "@query": {"to_q", "q_proj", "query", "wq", "q", "q_linear", "add_q_proj"},
    "@key": {"to_k", "k_proj", "key", "wk", "k", "k_linear", "add_k_proj"},
    "@value": {"to_v", "v_proj", "value", "wv", "v", "v_linear", "add_v_proj"},
    "@output": {"to_out", "out_proj", "o_proj", "proj_out", "proj_attn", "wo", "proj", "to_add_out", "output"},
}
_ATTENTION_MODULES = ("attn", "attention", "mha")


def select(pattern: str, sites: Sequence[SiteFacts]) -> frozenset[SiteKey]:
    """Sites that a pattern names.

    Raises:
        BadInput: it names none; the nearest names are in the message. In a network without weighted layers (attention
            over fixed keys and values) ``@first`` and ``@last`` may name none, so that every short string fits it.
    """
    found = frozenset(facts.key for facts in sites if _chooser(pattern, sites)(facts))
    if not found and (pattern not in (FIRST, LAST) or any(facts.edge for facts in sites)):
        names = [str(facts.key) for facts in sites] + sorted({facts.key.module for facts in sites if facts.key.module})
        choices = _SELECTORS if pattern.startswith("@") else names
        near = get_close_matches(pattern, choices, 3, cutoff=0)
        raise BadInput("a pattern must name a site", got=repr(pattern), fix=f"nearest: {', '.join(near)}")
    return found


def _chooser(pattern: str, sites: Sequence[SiteFacts]) -> Callable[[SiteFacts], bool]:
    if not pattern.startswith("@"):
        return lambda facts: _matches(pattern, facts.key)
    if pattern not in _SELECTORS:
        near = get_close_matches(pattern, _SELECTORS, 1, cutoff=0)
        raise BadInput(f"@ introduces one of {', '.join(_SELECTORS)}", got=pattern, fix=f"did you mean {near[0]}?")
    edges = [facts.key for facts in sites if facts.edge]
    return lambda facts: _SELECTORS[pattern](facts, edges)


def _matches(pattern: str, site: SiteKey) -> bool:
    name, every_call = str(site), str(SiteKey(site.module, site.operation))
    parts = site.module.split(".")
    inside = (".".join(parts[:n]) for n in range(1, len(parts) + 1))
    return any(fnmatchcase(text, pattern) for text in (name, every_call, *inside) if text)


def _projection(name: str) -> Callable[[SiteFacts, list[SiteKey]], bool]:
    def chosen(facts: SiteFacts, edges: list[SiteKey]) -> bool:
        path = facts.key.module.lower().split(".")
        while path and path[-1].isdigit():  # a layer in a list, such as to_out.0
            path.pop()
        within = any(word in part for part in path[:-1] for word in _ATTENTION_MODULES)
        return facts.weight_shape is not None and bool(path) and path[-1] in _PROJECTIONS[name] and within

    return chosen


_SELECTORS: dict[str, Callable[[SiteFacts, list[SiteKey]], bool]] = {
    FIRST: lambda facts, edges: facts.key in edges[:1],
    LAST: lambda facts, edges: facts.key in edges[-1:],
    ATTENTION: lambda facts, edges: facts.key.operation in ("qk", "pv"),
    "@qk": lambda facts, edges: facts.key.operation == "qk",
    "@pv": lambda facts, edges: facts.key.operation == "pv",
    "@weights": lambda facts, edges: facts.weight_shape is not None,
    **{name: _projection(name) for name in _PROJECTIONS},
}
