"""Jobs go round their loop: answered, failed, handed back, or too much for an ill machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Bench
from worker.blame import ILL_AFTER
from worker.clock import Clock
from worker.errors import ItemError, MachineError
from worker.items import Answer, Failure, Item, Result
from worker.jobs.loop import JobLoop
from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Workspace
from worker.looking import Looking
from worker.queue import layout
from worker.queue.answers import read_done
from worker.queue.inbox import Inbox
from worker.tasks.task import JobTask, Params, Stopped

Told = Callable[[Item, Workspace, StopFlag], Any]


class Job(JobTask[Params]):
    name = "job"
    about = "for tests"
    takes = "values"

    def __init__(self, tell: Told) -> None:
        super().__init__(Params())
        self.tell = tell
        self.runs: list[str] = []

    def run(self, item: Item, workspace: Workspace, stop: StopFlag) -> Answer | Failure:
        self.runs.append(item.input)
        told: Answer | Failure = self.tell(item, workspace, stop)
        return told


def make(bench: Bench, task: Job, scratch: Path) -> JobLoop:
    inbox = Inbox(bench.store, 1, bench.ttl, Clock(), lambda _: ([], []))  # type: ignore[arg-type]
    looking = Looking(bench.worker("a"), inbox)
    store: Any = bench.store
    return JobLoop(task, store, looking, nullcontext, lambda _: None, worker="a", scratch=scratch)


def results(bench: Bench) -> dict[str, Result]:
    store: Any = bench.store
    names = [layout.shard_of(entry.name) for entry in store.list(layout.DONE)]
    return {r.input: r for name in names for r in read_done(store, name).answers.values()}


def released(bench: Bench) -> list[str]:
    store: Any = bench.store
    return [entry.name for entry in store.list(layout.CLAIMS) if entry.name.endswith(".released")]


def test_a_job_that_raises_fails_and_the_others_go_on(tmp_path: Path) -> None:
    bench = Bench(items=3, shard_size=1)

    def tell(item: Item, *_: object) -> Answer:
        if item.input == "001":
            raise ItemError("bad-data", "no labels")
        return Answer({"said": item.input})

    make(bench, Job(tell), tmp_path).run()
    assert {r.input: getattr(r.outcome, "kind", "ok") for r in results(bench).values()} == {
        "000": "ok",
        "001": "bad-data",
        "002": "ok",
    }


@pytest.mark.parametrize("answer", [None, Answer({"x": float("nan")})])
def test_an_answer_that_is_none_fails_its_job(answer: object, tmp_path: Path) -> None:
    bench = Bench(items=1, shard_size=1)
    make(bench, Job(lambda *_: answer), tmp_path).run()
    (result,) = results(bench).values()
    assert isinstance(result.outcome, Failure)


def test_a_job_that_stops_is_handed_back_and_no_other_is_begun(tmp_path: Path) -> None:
    bench = Bench(items=2, shard_size=1)

    def tell(_: Item, workspace: Workspace, stop: StopFlag) -> Answer:
        loop.stop("SIGTERM", 25.0)
        assert stop
        assert 0 < stop.time_left <= 25.0
        with workspace.checkpoint(1) as folder:
            (folder / "state").write_text("one")
        raise Stopped

    task = Job(tell)
    loop = make(bench, task, tmp_path)
    loop.run()
    assert len(task.runs) == 1
    assert len(released(bench)) == 1
    assert not results(bench)
    store: Any = bench.store
    assert any(layout.checkpoint_of(entry.name) for entry in store.list(layout.JOBS))


def test_a_job_that_stops_unasked_fails(tmp_path: Path) -> None:
    bench = Bench(items=1, shard_size=1)

    def tell(*_: object) -> Answer:
        raise Stopped

    make(bench, Job(tell), tmp_path).run()
    (result,) = results(bench).values()
    assert isinstance(result.outcome, Failure)


def test_faults_of_the_machine_stop_the_worker_and_fail_no_job(tmp_path: Path) -> None:
    bench = Bench(items=1, shard_size=1)

    def tell(*_: object) -> Answer:
        raise RuntimeError("CUDA error: device-side assert triggered")

    task = Job(tell)
    with pytest.raises(MachineError, match="device-side assert"):
        make(bench, task, tmp_path).run()
    assert len(task.runs) == ILL_AFTER
    assert not results(bench)
    assert len(released(bench)) == ILL_AFTER


def test_small_files_of_the_answer_and_published_ones_come_together(tmp_path: Path) -> None:
    bench = Bench(items=1, shard_size=1)

    def tell(_: Item, workspace: Workspace, __: StopFlag) -> Answer:
        (workspace.folder / "weights").write_bytes(b"heavy")
        workspace.publish("weights.bin", workspace.folder / "weights")
        return Answer({"ok": True}, {"curve.svg": b"<svg/>"})

    make(bench, Job(tell), tmp_path).run()
    (result,) = results(bench).values()
    assert result.files == {"weights.bin": layout.file(b"heavy"), "curve.svg": layout.file(b"<svg/>")}
    assert not any(tmp_path.iterdir()), "its room on this machine is left behind"
