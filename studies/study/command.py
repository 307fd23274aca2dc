"""``qnoise study run`` and ``resume``: from a study to a store that holds all of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from samplers.errors import BadInput
from studies.engine.task import Task
from studies.store.register import register, registered
from studies.store.store import Store
from studies.study.study import Study

STALE, FAILED = "stale", "failed"


def run_study(
    study: Study,
    store_path: Path,
    *,
    workers: int | None,
    scheduler: str | None,
    recompute: str | None,
    as_json: bool,
) -> int:
    """Run what is not there yet; the exit code.

    Args:
        study: what to run.
        store_path: the store, made if absent.
        workers: processes of the local pool; as many as the cores allow if None.
        scheduler: address of a dask scheduler in place of the local pool.
        recompute: "stale": runs that other code or libraries made are made again.
        as_json: progress as JSON lines.

    Raises:
        BadInput: before the work, what cannot run; during it, a store that takes no more files.
    """
    if recompute not in (None, STALE):
        raise BadInput("recompute must be stale", got=repr(recompute), fix="--recompute stale")
    from studies.study.plan import plan

    tasks = plan(study)
    store = Store.create(store_path)
    register(store, study.config(), tuple(task.key for task in tasks))
    return _work(store, tasks, workers, scheduler, recompute, as_json)


def resume(
    store_path: Path, *, workers: int | None, scheduler: str | None, recompute: str | None, as_json: bool
) -> int:
    """Go on with every study of a store; the exit code.

    Raises:
        BadInput: as :func:`run_study`; no study in the store.
    """
    entries = list(registered(Store.open(store_path)))
    if not entries:
        raise BadInput("a store must have a study to resume", got=f"none in {store_path}", fix="qnoise study run FILE")
    codes = [
        run_study(
            Study.from_config(entry.study), store_path, workers=workers, scheduler=scheduler, recompute=recompute,
            as_json=as_json,
        )
        for entry in entries
    ]  # fmt: skip
    return max(codes)


def _work(
    store: Store,
    tasks: Sequence[Task],
    workers: int | None,
    scheduler: str | None,
    recompute: str | None,
    as_json: bool,
) -> int:
    from studies.engine.choice import engine_for
    from studies.engine.progress import Tally, shown
    from studies.engine.stopping import on_interrupt
    from studies.store.exclusive import sweep

    sweep(store.temporary)
    there = store.keys()
    if recompute == STALE:
        from studies.store.staleness import stale

        old = stale(store, [task.key for task in tasks if task.key in there])
        there -= old
        tasks = [Task(task.key, task.spec, again=task.key in old) for task in tasks]
    missing = [task for task in tasks if task.key not in there]
    titles = {task.key: task.spec.title for task in tasks}
    tally = Tally(len(tasks), found=len(tasks) - len(missing))
    with on_interrupt() as stop, shown(tally, titles.__getitem__, as_json=as_json) as listener:
        if missing:
            engine_for(store, missing, workers, scheduler).run(missing, listener, stop)
    if not as_json:
        print(f"{'nothing to do' if not missing else tally.line}: {store.path}")
    if stop.asked:
        return 130
    return 1 if tally.failed else 0
