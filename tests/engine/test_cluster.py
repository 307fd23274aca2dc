"""Claim: a dask cluster whose workers are killed gives the bytes of one process, each run once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from samplers.errors import BadInput
from studies.engine.choice import engine_for
from studies.engine.cluster import Cluster
from studies.engine.outcome import Event, State
from studies.engine.stopping import Stop
from studies.store.files import dataset_bytes
from studies.store.store import Store
from studies.study.plan import plan
from studies.study.workshop import Workshop

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.usefixtures("one_thread", "folder")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # distributed's own, of sockets and processes that were killed
def test_cluster__gives_the_bytes_of_one_process_while_workers_are_killed(study, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(Path.cwd()))))
    tasks, store = plan(study), Store.create(tmp_path / "store")
    events: list[Event] = []
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=tmp_path / "dask"
    ) as cluster:
        with distributed.Client(cluster, set_as_default=False) as client:
            (first, _) = client.run(os.getpid).values()

        def listen(event: Event) -> None:
            if event.state is State.DONE and not any(e.state is State.DONE for e in events):
                os.kill(first, signal.SIGKILL)
            events.append(event)

        engine_for(store, tasks, None, cluster.scheduler_address).run(tasks, listen, Stop())
    alone = Workshop()
    expected = {task.key: dataset_bytes(alone.run(task.spec)) for task in tasks}
    assert {key: store.run(key).read_bytes() for key in sorted(store.keys())} == expected
    ended = [event.state for event in events if event.state is not State.STARTED]
    assert ended.count(State.DONE) + ended.count(State.FOUND) == len(tasks)


def test_cluster__says_where_no_scheduler_answers(study, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("studies.engine.cluster.CONNECT_SECONDS", 0.5)
    cluster = Cluster(Store.create(tmp_path / "store"), "tcp://127.0.0.1:9")
    with pytest.raises(BadInput, match="must answer"):
        cluster.run(plan(study), lambda _: None, Stop())


def test_engine_for__refuses_workers_beside_a_cluster_and_none_at_all(study, tmp_path: Path) -> None:
    store, tasks = Store.create(tmp_path / "store"), plan(study)
    with pytest.raises(BadInput, match="own workers"):
        engine_for(store, tasks, 2, "tcp://127.0.0.1:9")
    with pytest.raises(BadInput, match="1 to"):
        engine_for(store, tasks, 0, None)
