"""einsum and tensordot as products of pairs, from left to right.

Each index of a pair belongs to one class: batch (in both, kept), contracted (in both, dropped), left or right (in one,
kept), or summed (in one, dropped). A pair without a contracted index is elementwise and no contraction. Torch orders
the pairs by cost where opt_einsum is installed; the order here is always the equation's.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from itertools import count
from math import prod
from typing import Any

from torch import Tensor

from samplers.errors import BadInput
from simulator.instrument.products import Run, product

Label = str | int
"""A letter, or a number for an axis of the ellipsis."""

_LETTERS = string.ascii_uppercase + string.ascii_lowercase
"""Torch's order of letters."""


def einsum(run: Run, *args: Any) -> Tensor:
    """``torch.einsum``, as an equation or as sublists.

    Raises:
        BadInput: an equation that does not fit its operands.
    """
    equation, operands = _arguments(args)
    inputs, arrow, wanted = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        raise BadInput("einsum needs one term per operand", got=f"{equation!r}, {len(operands)}", fix="correct it")
    labels = [_labels(term, operand.ndim) for term, operand in zip(terms, operands, strict=True)]
    hidden = sorted({n for term in labels for n in term if isinstance(n, int)}, reverse=True)
    if arrow:
        output: list[Label] = _letters(wanted, hidden)
    else:
        letters = inputs.replace(".", "").replace(",", "")
        output = [*hidden, *(c for c in _LETTERS if letters.count(c) == 1)]
    return contract(run, "einsum", operands, labels, output)


def tensordot(run: Run, a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """``torch.tensordot``."""
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        dims = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    left, right = ([n] if isinstance(n, int) else list(n) for n in dims)
    fresh = count(a.ndim)
    labels: list[list[Label]] = [list(range(a.ndim)), [next(fresh) for _ in range(b.ndim)]]
    for i, j in zip(left, right, strict=True):
        labels[1][j] = labels[0][i]
    gone = {labels[0][i] for i in left}
    output = [label for label in (*labels[0], *labels[1]) if label not in gone]
    return contract(run, "tensordot", [a, b], labels, output)


def contract(
    run: Run, operation: str, operands: Sequence[Tensor], labels: Sequence[list[Label]], output: list[Label]
) -> Tensor:
    """Contract labelled operands to ``output`` by pairs from left to right."""
    known = {label for term in labels for label in term}
    if len(set(output)) != len(output) or not set(output) <= known:
        raise BadInput("an output index must occur once, and in an input", got=output, fix="correct the equation")
    singles = [_diagonal(operand, term) for operand, term in zip(operands, labels, strict=True)]
    left, present = singles[0]
    for i, (right, term) in enumerate(singles[1:], 2):
        keep = {*output, *(label for _, rest in singles[i:] for label in rest)}
        left, present = _pair(run, operation, left, present, right, term, keep)
    left, present = _sum(left, present, set(output))
    return left.permute([present.index(label) for label in output])


def _pair(
    run: Run, operation: str, a: Tensor, la: list[Label], b: Tensor, lb: list[Label], keep: set[Label]
) -> tuple[Tensor, list[Label]]:
    # an index of length 1 in one operand only broadcasts: dropped, it sums the other operand alone
    sizes_a, sizes_b = dict(zip(la, a.shape, strict=True)), dict(zip(lb, b.shape, strict=True))
    uneven = {n for n in sizes_a.keys() & sizes_b.keys() if n not in keep and sizes_a[n] != sizes_b[n]}
    if any(1 not in (sizes_a[n], sizes_b[n]) for n in uneven):
        raise BadInput("contracted axes must have equal length", got=f"{tuple(a.shape)}, {tuple(b.shape)}", fix="check")
    a, la = _sum(a, la, keep | (set(lb) - uneven))
    b, lb = _sum(b, lb, keep | (set(la) - uneven))
    shared = [n for n in la if n in lb]
    batch, contracted = [n for n in shared if n in keep], [n for n in shared if n not in keep]
    rows, columns = [n for n in la if n not in lb], [n for n in lb if n not in la]
    a = a.permute([la.index(n) for n in (*batch, *rows, *contracted)])
    b = b.permute([lb.index(n) for n in (*batch, *columns, *contracted)])
    at, m, n = len(batch), tuple(a.shape[len(batch) :][: len(rows)]), tuple(b.shape[len(batch) :][: len(columns)])
    if not contracted:
        a = a.reshape(*a.shape, *(1,) * len(columns))
        b = b.reshape(*b.shape[:at], *(1,) * len(rows), *b.shape[at:])
        return a * b, [*batch, *rows, *columns]
    depth = prod(a.shape[at + len(rows) :])
    out = product(run, operation, a.reshape(*a.shape[:at], prod(m), depth), b.reshape(*b.shape[:at], prod(n), depth))
    return out.reshape((*out.shape[:at], *m, *n)), [*batch, *rows, *columns]


def _sum(x: Tensor, labels: list[Label], keep: set[Label]) -> tuple[Tensor, list[Label]]:
    gone = [axis for axis, label in enumerate(labels) if label not in keep]
    return (x.sum(gone), [label for label in labels if label in keep]) if gone else (x, labels)


def _diagonal(x: Tensor, labels: list[Label]) -> tuple[Tensor, list[Label]]:
    """A repeated index runs along the diagonal."""
    labels = list(labels)
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            x = x.diagonal(0, first, second)  # the diagonal comes last
            labels = [n for i, n in enumerate(labels) if i not in (first, second)] + [label]
    return x, labels


def _labels(term: str, rank: int) -> list[Label]:
    hidden = rank - len(term.replace("...", ""))
    if hidden < 0 or (hidden and "..." not in term):
        raise BadInput("a term must name every axis of its operand", got=f"{term!r} for rank {rank}", fix="correct it")
    return _letters(term, list(range(hidden))[::-1])


def _letters(term: str, hidden: Sequence[int]) -> list[Label]:
    """The ellipsis's axes are numbered from the last one, so that those of several operands line up on the right."""
    before, dots, after = term.partition("...")
    if not all(c in _LETTERS for c in before + after):
        raise BadInput("indices must be letters", got=repr(term), fix="correct the equation")
    return [*before, *(hidden if dots else ()), *after]


def _arguments(args: tuple) -> tuple[str, list[Tensor]]:
    """The equation and its operands; sublists become letters."""
    if isinstance(args[0], str):
        operands = args[1] if len(args) == 2 and not isinstance(args[1], Tensor) else args[1:]
        return args[0], list(operands)
    pairs, last = (args[:-1], args[-1]) if len(args) % 2 else (args, None)

    def term(sublist: Sequence[Any]) -> str:
        return "".join("..." if n is Ellipsis else _LETTERS[n] for n in sublist)

    equation = ",".join(term(sublist) for sublist in pairs[1::2])
    return equation if last is None else f"{equation}->{term(last)}", list(pairs[::2])
