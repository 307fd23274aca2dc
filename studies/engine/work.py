"""One run, from its claim to its file: what every worker of every engine does."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING

from samplers.errors import QnoiseError
from studies.engine.outcome import Event, State
from studies.store.claims import claim
from studies.store.files import dataset_bytes
from studies.study.spec import RunSpec

if TYPE_CHECKING:
    from studies.store.journal import Journal
    from studies.store.store import Store
    from studies.study.workshop import Workshop


class StoreFailed(Exception):
    """The store takes no more files: the study ends, no run is to blame."""


def work(store: Store, workshop: Workshop, journal: Journal, key: str, spec: RunSpec, again: bool = False) -> Event:
    """Compute a run and publish it, unless it is there or somebody else is at it.

    Args:
        store: where it goes.
        workshop: makes it.
        journal: is told how long it took.
        key: of the run.
        spec: what to compute.
        again: put it in place of one that is there.

    Raises:
        StoreFailed: the disk refuses it.
    """
    if not again and store.run(key).exists():
        return Event(State.FOUND, key)
    with claim(store.claim(key)) as held:
        if not held:
            return Event(State.BUSY, key)
        if not again and store.run(key).exists():
            return Event(State.FOUND, key)
        started = time.perf_counter()
        try:
            found = workshop.run(spec)
            if found.attrs["study_key"] != key:
                raise QnoiseError(f"the run is {found.attrs['study_key'][:12]} by now: a file it names has changed")
            content = dataset_bytes(found)
        except Exception as error:
            seconds = round(time.perf_counter() - started, 3)
            detail = f"{type(error).__name__}: {error}".splitlines()[0]
            facts = {"spec": spec.values(), "error": detail, "traceback": traceback.format_exc(), "seconds": seconds}
            store.note_failure(key, facts)
            journal.note("failed", key, seconds=seconds, error=detail)
            return Event(State.FAILED, key, seconds, detail)
        try:
            done = store.publish(key, content, again=again)
        except QnoiseError as error:
            raise StoreFailed(str(error)) from None
        seconds = round(time.perf_counter() - started, 3)
        journal.note("done" if done else "repeated", key, seconds=seconds)
        return Event(State.DONE if done else State.FOUND, key, seconds)
