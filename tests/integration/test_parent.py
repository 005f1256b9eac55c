"""The small process that beats and watches: what it does when the one that works hangs or dies."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.tasks.sayings import HASTE
from tests.workers import TASKS, Worker, eventually, finish, processes_of, run, worker
from worker import process
from worker.link import Alive, Line
from worker.nursery import Nursery, Working
from worker.parent import Ending, Incarnation, Parent
from worker.queue import layout
from worker.queue.store import Store, open_store
from worker.settings import Settings
from worker.stop import StopListener


@pytest.fixture(autouse=True)
def tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_TASKS", str(TASKS))


@pytest.fixture
def nursery(tasks: None) -> Iterator[Nursery]:  # noqa: ARG001
    with Nursery(process.main) as opened:
        yield opened


def queue_of(folder: Path, task: str, *inputs: str) -> Store:
    code, said = run("enqueue", folder, "--task", *task.split(), *inputs)
    assert code == 0, said
    return open_store(str(folder))


def test_a_hung_worker_loses_its_shard_and_the_item_in_hand_is_named(
    tmp_path: Path, nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = queue_of(tmp_path / "queue", "sleepy --set seconds=600", "hangs")
    with StopListener() as stop:
        incarnation = Incarnation(nursery, 600.0, Settings(store.url), stop, lambda _: None)
        hear = incarnation._hear

        def heard(line: Line) -> bool:
            goes_round = hear(line)
            if incarnation._heart.hand:  # it hangs from now on, and not while it starts
                incarnation._limit = 0.5
            return goes_round

        monkeypatch.setattr(incarnation, "_hear", heard)
        ending = incarnation.run()
    assert ending.died
    assert "hung" in ending.text
    (released,) = (e.name for e in store.list(layout.CLAIMS) if e.name.endswith(".released"))
    record = json.loads(store.get(released) or b"")
    assert record["died"]
    assert len(record["in_hand"]) == 1


def test_an_answer_that_takes_longer_than_the_limit_and_gets_on_is_waited_for(
    tmp_path: Path, nursery: Nursery
) -> None:
    store = queue_of(tmp_path / "queue", "steady --set seconds=6", "long")
    told: list[Alive] = []
    with StopListener() as stop:
        incarnation = Incarnation(nursery, 600.0, Settings(store.url), stop, told.append)
        incarnation._limit = 4.0
        assert incarnation.run() == Ending(0, progress=1)
    assert len(told) > 3


def test_a_worker_that_dies_is_replaced_until_it_has_died_too_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nursery: Nursery
) -> None:
    store = queue_of(tmp_path / "queue", "deadly", "poison")
    monkeypatch.setattr("worker.parent.DEATHS_IN_A_ROW", 2)
    monkeypatch.setattr("worker.parent.PAUSE_MOST_S", 0.1)
    with StopListener() as stop:
        ending = Parent(nursery, 600.0, Settings(store.url), stop, lambda _: None).run()
    assert ending.code == 3
    assert "died 2 times in a row" in ending.text
    assert "signal 9" in ending.text
    assert len(store.list(layout.WORKERS)) == 2


def test_a_claim_that_was_only_attempted_and_is_somebody_elses_is_not_released(
    tmp_path: Path, nursery: Nursery
) -> None:
    store = open_store(str(tmp_path))
    store.create(layout.claim("shard", 1), b'{"worker":"another"}')
    with StopListener() as stop:
        incarnation = Incarnation(nursery, 1.0, Settings(store.url), stop, lambda _: None)
    incarnation._heart.claims = frozenset({("shard", 1)})
    incarnation._release(Ending(0, "signal 9", died=True))
    assert store.get(layout.released("shard", 1)) is None


def test_a_checkpoint_is_progress_as_an_answer_is(tmp_path: Path, nursery: Nursery) -> None:
    with StopListener() as stop:
        incarnation = Incarnation(nursery, 1.0, Settings(str(tmp_path)), stop, lambda _: None)
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        for info in ({"state": "ready"}, {"answered": 1, "checkpoints": 2}):
            theirs.send(Alive(info))
            incarnation._hear(Line(ours))
    assert incarnation._ending(-9) == Ending(0, "signal 9", died=True, progress=3)


def test_without_its_nursery_a_worker_goes_on_and_cannot_be_replaced(tmp_path: Path) -> None:
    haste = tmp_path / "haste"
    store = queue_of(tmp_path / "queue", "sleepy --set seconds=600", "one", "two", "three")
    begun = worker("run", store.url, env={HASTE: str(haste)})
    eventually(lambda: store.list(layout.CLAIMS))
    os.kill(process_called(begun, "worker-nursery"), signal.SIGKILL)
    haste.touch()
    code, said = finish(begun)
    assert code == 0, said
    store = queue_of(tmp_path / "other", "sleepy --set seconds=600", "one", "two", "three")
    begun = worker("run", store.url)
    eventually(lambda: store.list(layout.CLAIMS))
    os.kill(process_called(begun, "worker-nursery"), signal.SIGKILL)
    os.kill(process_called(begun, "worker-loop"), signal.SIGKILL)
    code, said = finish(begun)
    assert code == 75, said
    assert "was killed" in said
    assert not processes_of(begun.mark)
    for name in (entry.name for entry in store.list(layout.CLAIMS) if entry.name.endswith(".released")):
        assert not json.loads(store.get(name) or b"")["died"], "no item is to blame"
    code, said = run("run", store.url, env={HASTE: str(haste)})
    assert code == 0, said


def process_called(one: Worker, name: str) -> int:
    (pid,) = (pid for pid in processes_of(one.mark) if comm(pid) == name)
    return pid


def comm(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def test_an_item_that_kills_every_worker_ends_as_a_failure_and_the_others_are_answered(
    tmp_path: Path,
) -> None:
    queue = tmp_path / "queue"
    queue_of(queue, "deadly", "one", "poison", "two", "three")
    code, said = run("run", queue, "--out", tmp_path / "out")
    assert code == 1, said
    assert "Traceback" not in said
    results = json.loads((tmp_path / "out" / "final_results.json").read_text())["results"]
    kinds = {result["input"]: (result["failure"] or {}).get("kind") for result in results}
    assert kinds == {"one": None, "poison": "crashed-worker", "three": None, "two": None}


def test_a_parent_that_fails_leaves_nobody_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nursery: Nursery
) -> None:
    store = queue_of(tmp_path / "queue", "sleepy --set seconds=60", "long")

    def fail(incarnation: Incarnation, working: Working, line: Line) -> Ending:
        while not incarnation._heart.hand:
            incarnation._hear(line)
        seen.append(working.pid)
        raise RuntimeError("can't start new thread")

    seen: list[int] = []
    monkeypatch.setattr(Incarnation, "_watch", fail)
    with StopListener() as stop, pytest.raises(RuntimeError):
        Incarnation(nursery, 60.0, Settings(store.url), stop, lambda _: None).run()
    eventually(lambda: not Path(f"/proc/{seen[0]}").exists())
    (released,) = (e.name for e in store.list(layout.CLAIMS) if e.name.endswith(".released"))
    assert "can't start new thread" in json.loads(store.get(released) or b"")["reason"]
