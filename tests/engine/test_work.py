"""Claim: one run ends as exactly one of: there, somebody else's, published, or failed with its reason kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from samplers.errors import BadInput
from studies.engine.outcome import State
from studies.engine.work import StoreFailed, work
from studies.store.claims import claim
from studies.store.files import dataset_bytes
from studies.store.journal import Journal, events
from studies.store.store import Store
from studies.study.plan import plan
from studies.study.spec import RunSpec
from studies.study.study import Axis, Study
from studies.study.workshop import Workshop

pytestmark = pytest.mark.usefixtures("one_thread", "folder")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def test_work__publishes_once_and_finds_it_then(store: Store, study) -> None:
    task, journal = plan(study)[0], Journal(store.journal)
    workshop = Workshop(store)
    assert work(store, workshop, journal, task.key, task.spec).state is State.DONE
    assert work(store, workshop, journal, task.key, task.spec).state is State.FOUND
    assert store.run(task.key).read_bytes() == dataset_bytes(Workshop().run(task.spec))
    assert [event["event"] for event in events(store.journal)] == ["done"]
    assert work(store, workshop, journal, task.key, task.spec, again=True).state is State.DONE


def test_work__leaves_what_somebody_else_computes(store: Store, study) -> None:
    task = plan(study)[0]
    with claim(store.claim(task.key)):
        event = work(store, Workshop(store), Journal(store.journal), task.key, task.spec)
    assert event.state is State.BUSY
    assert store.keys() == set()


def test_work__keeps_the_reason_of_a_failure(store: Store, study) -> None:
    fixed = {**study.fixed, "scheme": "w8a8", "correction": "ptqd"}
    del fixed["calibration_samples"]
    bad, good = plan(Study("fails", fixed=fixed, axes=(Axis({"calibration_samples": (2, 16)}),)))  # 2 fit nothing
    workshop, journal = Workshop(store), Journal(store.journal)
    event = work(store, workshop, journal, bad.key, bad.spec)
    assert event.state is State.FAILED
    facts = store.failure_of(bad.key)
    assert facts["error"] == event.detail
    assert "Traceback" in facts["traceback"]
    assert RunSpec(**facts["spec"]) == bad.spec
    assert work(store, workshop, journal, good.key, good.spec).state is State.DONE
    assert (store.keys(), store.failed()) == ({good.key}, {bad.key})


def test_work__fails_a_run_whose_files_have_changed_since_it_was_planned(store: Store, study) -> None:
    task = plan(study)[0]
    event = work(store, Workshop(store), Journal(store.journal), "ab" * 32, task.spec)
    assert event.state is State.FAILED
    assert "has changed" in event.detail


def test_work__blames_the_store_and_no_run_where_the_disk_is_full(store: Store, study, monkeypatch) -> None:
    def refuse(*_, **__):
        raise BadInput("a store must take another file", got="no space", fix="make room")

    task, workshop = plan(study)[0], Workshop(store)
    monkeypatch.setattr("studies.store.store.publish_once", refuse)
    with pytest.raises(StoreFailed, match="no space"):
        work(store, workshop, Journal(store.journal), task.key, task.spec)
    assert store.failed() == set()
