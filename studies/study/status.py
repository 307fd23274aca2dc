"""``qnoise study status``: how the studies of a store stand, by names of files alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.store.claims import is_claimed
from studies.store.register import registered
from studies.store.store import Store

SHOWN_FAILURES = 20


@dataclass(frozen=True)
class Standing:
    """How one study stands.

    Args:
        name: of the study.
        total: its runs.
        done: those that are there.
        failures: why others failed, last time, by key.
        running: those that somebody computes now, as far as locks tell.
    """

    name: str
    total: int
    done: int
    failures: dict[str, str]
    running: int

    @property
    def missing(self) -> int:
        """Runs that are not there and have not failed."""
        return self.total - self.done - len(self.failures)

    def config(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "study": self.name, "total": self.total, "done": self.done, "missing": self.missing,
            "running": self.running, "failed": len(self.failures), "failures": self.failures,
        }  # fmt: skip


def standings(store: Store) -> list[Standing]:
    """Every study of the store.

    Raises:
        BadInput: an entry of its studies is damaged.
    """
    there, failed = store.keys(), store.failed()
    claimed = {path.name for path in (store.path / "claims").iterdir()}
    found = []
    for entry in registered(store):
        asked = set(entry.keys)
        running = sum(is_claimed(store.claim(key)) for key in asked & claimed)
        facts = {key: store.failure_of(key) or {} for key in sorted((asked & failed) - there)}
        failures = {key: str(fact.get("error", "the reason cannot be read")) for key, fact in facts.items()}
        found.append(Standing(entry.study["name"], len(asked), len(asked & there), failures, running))
    return found


def show_status(path: Path, *, as_json: bool) -> int:
    """Print the standings; 1 if a run failed, else 0."""
    store = Store.open(path)
    found = standings(store)
    failed = any(standing.failures for standing in found)
    if as_json:
        from studies.console import print_json

        print_json([standing.config() for standing in found])
        return int(failed)
    from studies.console import print_table

    header = ["study", "runs", "done", "running", "failed", "missing"]
    rows = [[s.name, str(s.total), str(s.done), str(s.running), str(len(s.failures)), str(s.missing)] for s in found]
    print_table(f"{path}", header, rows)
    for standing in found:
        for key, error in list(standing.failures.items())[:SHOWN_FAILURES]:
            print(f"failed: {key[:16]} {error}")
        if len(standing.failures) > SHOWN_FAILURES:
            print(f"and {len(standing.failures) - SHOWN_FAILURES} more of {standing.name}; all with --json")
    return int(failed)
