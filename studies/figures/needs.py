"""What figures need of runs, and what is said where it is not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from samplers.errors import BadInput
from studies.sources.run import Run


def require(runs: Sequence[Run], figure: str, what: str, fix: str, suits: Callable[[Run], bool]) -> list[Run]:
    """The runs that a figure can be drawn of.

    Args:
        runs: chosen from.
        figure: its name.
        what: it needs, as a clause after "needs".
        fix: how runs come to have it.
        suits: whether a run has it.

    Raises:
        BadInput: none has.
    """
    found = [run for run in runs if suits(run)]
    if not found:
        raise BadInput(f"the figure {figure} needs {what}", got=f"{len(runs)} runs without", fix=fix)
    return found


def with_variables(runs: Sequence[Run], figure: str, variables: Sequence[str], what: str, fix: str) -> list[Run]:
    """The runs that have some variables; as :func:`require`."""
    return require(runs, figure, what, fix, lambda run: run.has(*variables))


def with_sites(runs: Sequence[Run], figure: str) -> list[Run]:
    """The runs that recorded their sites; as :func:`require`."""
    return with_variables(
        runs, figure, ("site_injected",), "runs that record each site's noise", "run the study with sites = true"
    )


def plain(run: Run) -> bool:
    """Whether a run has no correction."""
    return run.fields.get("correction") == "none"
