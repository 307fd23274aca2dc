"""What runs were made with, and what a reader should be told about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib import metadata

from studies.report.markup import Html
from studies.report.tables import Value, sortable
from studies.sources.groups import Group, arranged
from studies.sources.run import FACTS, Run
from studies.sources.source import Part

FEWEST_SEEDS = 3


def provenance(runs: Sequence[Run]) -> Html:
    """A row per version or processor that occurs, with the number of runs that have it."""
    counts = Counter((name, value) for run in runs for name, value in run.facts.items())
    rows: list[list[Value]] = [
        [(_spelled(name), name), (value, value), (str(count), float(count))]
        for (name, value), count in sorted(counts.items())
    ]
    return sortable("What the runs were made with", ["what", "version", "runs"], rows)


def warnings_of(part: Part) -> list[str]:
    """What a reader of a study's numbers must know."""
    found = []
    if part.failures:
        found.append(f"{len(part.failures)} runs failed; they are listed below, and not in any number.")
    if part.missing:
        found.append(f"{part.missing} runs have not been computed yet; the study is not complete.")
    if part.doubles:
        found.append(
            f"{part.doubles} runs have the same fields as another (of other weights, files or versions); "
            "one of each is shown."
        )
    if not part.runs:
        return [*found, "No run has finished: there is nothing to show."]
    for name in sorted({name for run in part.runs for name in run.facts}):
        values = sorted({run.facts.get(name, "unknown") for run in part.runs})
        if len(values) > 1:
            found.append(f"Runs were made with more than one {_spelled(name)}: {', '.join(values)}.")
    here, made = _version(), {run.facts.get("version_qnoise", "unknown") for run in part.runs}
    if made != {here}:
        found.append(f"Runs were made with qnoise {', '.join(sorted(made))}, this report with {here}.")
    return found + _few_seeds(part.runs)


def _few_seeds(runs: Sequence[Run]) -> list[str]:
    groups: list[Group] = [group for panel in arranged(runs) for group in panel.groups]
    alone = sum(len(group.runs) == 1 for group in groups)
    two = sum(1 < len(group.runs) < FEWEST_SEEDS for group in groups)
    found = []
    if alone:
        found.append(
            f"{alone} of {len(groups)} configurations have one seed: tables give them no interval, and those in "
            "figures are over samples, which leaves out what the seed decides."
        )
    if two:
        found.append(f"{two} of {len(groups)} configurations have two seeds: their intervals are very wide.")
    return found


def _spelled(name: str) -> str:
    return name.removeprefix(FACTS) if name.startswith(FACTS) else "processor" if name == "cpu" else name


def _version() -> str:
    try:
        return metadata.version("qnoise")
    except metadata.PackageNotFoundError:
        return "unknown"
