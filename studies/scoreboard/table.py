"""The scoreboard's tables: text in cells, the same for every form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from studies.documents import NONE, Table
from studies.scoreboard.board import BASELINE
from studies.scoreboard.companions import SEPARATOR
from studies.scoreboard.records import HIGHER_IS_BETTER, Record

Seconds = Mapping[tuple[str, str, str], float]
"""What a recipe took, mean over seeds, by (subject, bits, recipe)."""


HEADER = (
    "recipe", "seeds", "rank", "final SQNR, dB", "- minmax", "- control", "injected, dB", "KID x 1000", "FD",
    "precision", "recall", "BOPs", "bytes", "CPU s",
)  # fmt: skip

PAPER = ("recipe", "rank", "final SQNR, dB", "- minmax", "- control", "KID x 1000", "FD", "BOPs")
"""Columns that fit a page."""

NOTES = (
    "±: half of a 95 % interval over seeds (Student). Ranks count the recipes that are better beyond doubt, by the "
    "paired difference in final SQNR; recipes that overlap share a rank.",
    "- minmax, - control: paired differences over shared seeds; the control of a trained recipe is fine-tuned, that of "
    "a recipe with mixed bits the same recipe with one width (@uniform) or random widths (@random) of the same bit "
    "operations.",
    "final: of the last sample; injected: of epsilon at full precision's x, mean over steps; KID, FD, precision and "
    "recall against full precision on other noise; BOPs and bytes over those of float32; CPU s: of preparation.",
)
"""What the columns mean."""


def board_tables(records: Sequence[Record], seconds: Seconds, remark: str = "") -> list[Table]:
    """A table per subject and width."""
    keys = dict.fromkeys((record["subject"], record["bits"]) for record in records)
    tables = []
    for subject, bits in keys:
        own = [record for record in records if (record["subject"], record["bits"]) == (subject, bits)]
        tables.append(Table(f"{subject}, {bits}{remark}", HEADER, tuple(board_rows(own, seconds))))
    return tables


def board_rows(records: Sequence[Record], seconds: Seconds) -> list[tuple[str, ...]]:
    """Cells of one subject's and width's table, best first, companions after their recipe."""
    of = {record["recipe"]: record for record in records}

    def order(record: Record) -> tuple[bool, int, float, str]:
        base = of[record["recipe"].partition(SEPARATOR)[0]]
        final_sqnr = float(np.nan_to_num(base[HIGHER_IS_BETTER], nan=-np.inf))
        return base["rank"] is None, base["rank"] or 0, -final_sqnr, base["recipe"]

    return [
        (
            row_name(record),
            str(record["seeds"]["measured"] + record["seeds"]["diverged"] or NONE),
            NONE if record["rank"] is None else str(record["rank"]),
            final(record),
            "" if record["recipe"] == BASELINE else interval(record, f"{HIGHER_IS_BETTER}_gain", "+"),
            "; ".join(_against(record, one) for one in record["against"]),
            interval(record, "injected_sqnr_db"),
            interval(record, "kid_full_precision", scale=1000.0),
            interval(record, "frechet_full_precision"),
            *(_number(record[f"{name}_full_precision"]) for name in ("precision", "recall")),
            *(_number(record[name]) for name in ("bops", "weight_bytes")),
            _number(seconds.get((record["subject"], record["bits"], record["recipe"]), float("nan"))),
        )
        for record in sorted(records, key=order)
    ]  # fmt: skip


def row_name(record: Record) -> str:
    """The recipe; of a companion that could not spend all of its recipe's bit operations, which part it did."""
    share = record["budget_share"]
    return record["recipe"] + (f" ({share:.1%} of its BOPs)" if share < 0.9995 else "")


def final(record: Record) -> str:
    """Final SQNR with its interval, or why there is none."""
    seeds = record["seeds"]
    if record["state"] == "diverged":
        return f"diverged ({seeds['diverged']} of {sum(seeds.values()) - seeds['missing']})"
    return "refused" if record["state"] == "refused" else interval(record, HIGHER_IS_BETTER)


def interval(record: Mapping[str, float], name: str, sign: str = "", *, scale: float = 1.0) -> str:
    """Mean and half of its interval, which is symmetric; the mean alone of a single seed."""
    value, high = scale * record[name], scale * record[f"{name}_high"]
    if np.isnan(value):
        return NONE
    return f"{value:{sign}.2f}" + ("" if np.isnan(high) else f" ± {high - value:.2f}")


def _against(record: Record, one: Mapping[str, float]) -> str:
    control = str(one["control"]).removeprefix(record["recipe"])
    return f"{interval(one, HIGHER_IS_BETTER, '+')} {control}"


def _number(value: float) -> str:
    return NONE if np.isnan(value) else f"{value:.3g}"


def summary(records: Sequence[Record], subject: str) -> Table:
    """Recipes x widths of one subject: final SQNR and rank."""
    own = {(record["recipe"], record["bits"]): record for record in records if record["subject"] == subject}
    recipes = dict.fromkeys(recipe for recipe, _ in own if SEPARATOR not in recipe)
    widths = dict.fromkeys(bits for _, bits in own)
    rows = tuple((recipe, *(_ranked(own.get((recipe, bits))) for bits in widths)) for recipe in recipes)
    return Table(subject, ("recipe", *widths), rows)


def _ranked(record: Record | None) -> str:
    if record is None:
        return NONE
    return final(record) + ("" if record["rank"] is None else f" ({record['rank']})")


def rows_of(records: Sequence[Record], seconds: Seconds, recipe: str) -> Table:
    """All that the board says of a recipe and its companions: a line per subject, width and companion."""
    own = [record for record in records if record["recipe"].partition(SEPARATOR)[0] == recipe]
    lines = []
    for subject, bits in dict.fromkeys((record["subject"], record["bits"]) for record in own):
        at = [record for record in own if (record["subject"], record["bits"]) == (subject, bits)]
        lines += [(subject, bits, *line) for line in board_rows(at, seconds)]
    return Table("", ("subject", "bits", *HEADER), tuple(lines), 3)
