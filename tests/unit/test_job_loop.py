"""Jobs go round their loop: answered, failed, handed back, or too much for an ill machine."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Bench
from tests.workers import PATIENCE_S
from worker.blame import ILL_AFTER
from worker.clock import Clock
from worker.errors import ItemError, MachineError, StoreAwayError, UnfitError
from worker.items import Answer, Failure, Item, Result
from worker.jobs import checkpoints
from worker.jobs.again import go_on
from worker.jobs.loop import JobLoop, SpentProcessError
from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import TakenOverError, Workspace
from worker.looking import Looking
from worker.queue import intake, layout
from worker.queue.answers import read_done
from worker.queue.inbox import Inbox
from worker.queue.protocol import Sizes
from worker.queue.tally import Tally, pick
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


def make(
    bench: Bench,
    task: Job,
    scratch: Path,
    open_item: Any = nullcontext,
    tick: Callable[[Any], None] = lambda _: None,
) -> JobLoop:
    inbox = Inbox(bench.store, 1, bench.ttl, Clock(), lambda _: ([], []))  # type: ignore[arg-type]
    looking = Looking(bench.worker("a"), inbox)
    store: Any = bench.store
    loop = JobLoop(task, store, looking, open_item, tick, worker="a", scratch=scratch)
    loop.pause_s = 0.0
    return loop


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


def test_a_machine_that_does_not_fit_is_told_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(items=1, shard_size=1)

    def refuse(*_: object) -> Answer:
        raise UnfitError("it needs 94 GB")

    task = Job(refuse)
    with pytest.raises(UnfitError, match="94 GB"):
        make(bench, task, tmp_path).run()
    assert len(task.runs) == len(released(bench)) == 1
    assert not results(bench)
    assert "trying again" not in caplog.text


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


def save(workspace: Workspace, step: int) -> None:
    with workspace.checkpoint(step) as folder:
        (folder / "state").write_text(str(step))


def test_a_job_that_raises_goes_on_from_its_newest_checkpoint_as_long_as_it_comes_further(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(items=1, shard_size=1)
    began: list[int] = []

    def tell(_: Item, workspace: Workspace, __: StopFlag) -> Answer:
        found = workspace.resume()
        began.append(found.step if found else 0)
        if began[-1] < 3:
            save(workspace, began[-1] + 1)
            raise RuntimeError("the data loader hiccups")
        return Answer({"total": 3})

    make(bench, Job(tell), tmp_path).run()
    (result,) = results(bench).values()
    assert began == [0, 1, 2, 3]
    assert isinstance(result.outcome, Answer)
    assert result.run["attempts"] == 4
    assert "trying again from step 2" in caplog.text
    assert not released(bench), "it stays in the same hands"


def test_an_error_that_comes_again_without_a_step_forward_is_final(tmp_path: Path) -> None:
    bench = Bench(items=1, shard_size=1)
    began: list[int] = []

    def tell(_: Item, workspace: Workspace, __: StopFlag) -> Answer:
        found = workspace.resume()
        began.append(found.step if found else 0)
        save(workspace, max(began[-1], 1))
        raise ValueError(f"no such column, {len(began)}")

    make(bench, Job(tell), tmp_path).run()
    (result,) = results(bench).values()
    assert began == [0, 1]
    assert result.kind == "error"
    assert result.run["attempts"] == 2


def test_what_a_failed_try_handed_over_is_not_part_of_the_next_one(tmp_path: Path) -> None:
    bench = Bench(items=1, shard_size=1)

    def tell(_: Item, workspace: Workspace, __: StopFlag) -> Answer:
        if not list(workspace.folder.iterdir()) and not workspace.resume() and len(task.runs) == 1:
            (workspace.folder / "half").write_bytes(b"half")
            workspace.publish("half.bin", workspace.folder / "half")
            raise OSError("stale")
        return Answer({"clean": not list(workspace.folder.iterdir())})

    task = Job(tell)
    make(bench, task, tmp_path).run()
    (result,) = results(bench).values()
    assert result.outcome == Answer({"clean": True})
    assert not result.files


def test_a_word_of_the_task_on_its_item_is_not_tried_again(tmp_path: Path) -> None:
    bench = Bench(items=1, shard_size=1)

    def tell(*_: object) -> Answer:
        raise ItemError("bad-data", "no labels")

    task = Job(tell)
    make(bench, task, tmp_path).run()
    assert len(task.runs) == 1


def test_a_job_whose_helpers_die_of_the_stop_is_handed_back_and_not_failed(tmp_path: Path) -> None:
    bench = Bench(items=1, shard_size=1)

    def tell(*_: object) -> Answer:
        if len(task.runs) == 2:  # for the first error it is tried again in any case
            loop.stop("SIGTERM", 25.0)
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated")

    task = Job(tell)
    loop = make(bench, task, tmp_path)
    loop.run()
    assert len(task.runs) == 2
    assert not results(bench)
    assert len(released(bench)) == 1


def test_faults_of_a_machine_on_which_a_job_comes_further_do_not_add_up(tmp_path: Path) -> None:
    bench = Bench(items=1, shard_size=1)
    tries: list[int] = []

    def tell(_: Item, workspace: Workspace, __: StopFlag) -> Answer:
        tries.append(len(tries))
        if len(tries) > 2 * ILL_AFTER:
            return Answer({})
        save(workspace, len(tries))
        raise OSError(errno.EIO, "Input/output error")

    make(bench, Job(tell), tmp_path).run()
    (result,) = results(bench).values()
    assert result.ok


def test_checkpoints_that_never_become_whole_are_no_step_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_file: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def tell(_item: Item, workspace: Workspace, _stop: StopFlag) -> Answer:
        tries.append(1)
        assert len(tries) <= 3, "this machine is ill, and keeps the job"
        with workspace.checkpoint(1) as folder:
            (folder / "state").write_text("x")
        workspace.wait()
        return Answer({})

    tries: list[int] = []
    monkeypatch.setattr(checkpoints, "hash_file", unreadable)
    with pytest.raises(MachineError):
        make(Bench(items=1, shard_size=1), Job(tell), tmp_path).run()


def test_a_job_waits_before_it_is_tried_again_however_long_it_took(tmp_path: Path) -> None:
    def tell(*_: object) -> Answer:
        times.append(time.monotonic())
        time.sleep(0.2)
        if len(times) == 1:
            raise ValueError("of a moment")
        return Answer({})

    times: list[float] = []
    loop = make(Bench(items=1, shard_size=1), Job(tell), tmp_path)
    loop._looking._idle_exit_s = 0.1
    loop.pause_s = 0.5
    loop.run()
    assert times[1] - times[0] >= 0.7


def test_a_device_that_fails_after_a_step_forward_costs_the_process_and_not_the_job(tmp_path: Path) -> None:
    bench = Bench(items=1, shard_size=1)

    def tell(_: Item, workspace: Workspace, __: StopFlag) -> Answer:
        save(workspace, 1)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(SpentProcessError, match="illegal memory access"):
        make(bench, Job(tell), tmp_path).run()
    assert not results(bench)
    assert len(released(bench)) == 1


@pytest.mark.parametrize("error", [StoreAwayError("503"), OSError("bad block"), TakenOverError("theirs")])
def test_an_answer_counts_though_its_last_checkpoint_could_not_be_written(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(items=1, shard_size=1)

    def away(*_: object) -> None:
        raise error

    monkeypatch.setattr(bench.store, "upload", away, raising=False)

    def tell(_: Item, workspace: Workspace, __: StopFlag) -> Answer:
        save(workspace, 1)
        return Answer({"total": 1})

    make(bench, Job(tell), tmp_path).run()
    (result,) = results(bench).values()
    assert result.ok


def test_a_long_download_is_heard_of(tmp_path: Path) -> None:
    bench = Bench(items=1, shard_size=1)
    fetching, ticked = threading.Event(), threading.Event()

    @contextmanager
    def fetch(item: Item) -> Iterator[Item]:
        fetching.set()
        assert ticked.wait(PATIENCE_S), "nothing was heard while the input was fetched"
        yield item

    def tick(_: Any) -> None:
        if fetching.is_set():
            ticked.set()

    make(bench, Job(lambda *_: Answer({})), tmp_path, fetch, tick).run()
    (result,) = results(bench).values()
    assert result.ok


def test_a_download_does_not_outlive_a_stop(tmp_path: Path) -> None:
    bench = Bench(items=1, shard_size=1)
    over = threading.Event()

    @contextmanager
    def fetch(item: Item) -> Iterator[Item]:
        loop.stop("SIGTERM", 25.0)
        over.wait(PATIENCE_S)
        yield item

    task = Job(lambda *_: Answer({}))
    loop = make(bench, task, tmp_path, fetch)
    loop.run()
    assert not over.is_set()
    over.set()
    assert not task.runs
    assert len(released(bench)) == 1


def test_a_retry_of_a_failed_job_goes_on_and_leaves_only_what_is_kept(tmp_path: Path) -> None:
    bench = Bench(items=1, shard_size=1)
    store: Any = bench.store
    broken = [True]
    began: list[int] = []

    def tell(_: Item, workspace: Workspace, __: StopFlag) -> Answer:
        found = workspace.resume()
        began.append(found.step if found else 0)
        for step in range(began[-1] + 1, 7):
            if step == 4 and broken:
                raise ValueError("a mistake in the task")
            save(workspace, step)
        return Answer({"steps": 6})

    make(bench, Job(tell), tmp_path).run()
    look = Tally(store, lambda result: result.kind).look()
    assert began == [0, 3]
    assert len(look.failed) == 1

    broken.clear()
    assert intake.retry(store, Sizes(1), go_on(store, pick(look, ()), look.answers)) == 1
    make(bench, Job(tell), tmp_path).run()
    assert began == [0, 3, 3]
    look = Tally(store, lambda result: result.kind).look()
    assert not look.failed
    whole = [e.name for e in store.list(layout.JOBS) if layout.checkpoint_of(e.name)]
    assert len(whole) == 1, "the newest of all tries is all that stays"
