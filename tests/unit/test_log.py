"""The log in the output folder: what became of each item, in the order of time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.queues import TASKS, QueueUnderTest
from worker.items import Failure
from worker.queue.beat import Beat
from worker.queue.finals import Event
from worker.report.collect import collect
from worker.report.log import log_lines

NOON = 1795262400.0
BROKEN = Failure("broken", "half of it\nis missing")


def said(*events: Event, beats: tuple[Beat, ...] = ()) -> list[str]:
    return b"".join(log_lines(events, beats, [])).decode().splitlines()


def test_items_and_workers_stand_in_the_order_of_time() -> None:
    info = {"wall_s": 60.0, "device": "cpu", "host": "vm", "state": "ended"}
    lines = said(
        Event(NOON + 1, "a.mp4", 1.5, "0123456789", None),
        Event(NOON + 2, "b.mp4", 0.25, "0123456789", BROKEN),
        beats=(Beat("0123456789", 1, 60.0, info=info, at=NOON + 50),),
    )
    assert lines == [
        "2026-11-21T11:59:50Z  began    worker 01234567  cpu on vm",
        "2026-11-21T12:00:01Z  ok       a.mp4  1.50 s  worker 01234567",
        "2026-11-21T12:00:02Z  failed   b.mp4  0.25 s  worker 01234567  broken: half of it\ufffdis missing",
        "2026-11-21T12:00:50Z  heard    worker 01234567  for the last time: ended",
    ]


def test_a_name_makes_no_line_of_its_own_and_tells_no_secret() -> None:
    (line,) = said(Event(NOON, "az://c/a\n\x1b[2J\u202eb.mp4?sig=hunter2", None, None, None))
    assert "hunter2" not in line
    assert "\x1b" not in line
    assert "\u202e" not in line


def test_a_collected_queue_has_one_and_the_same_queue_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_TASKS", str(TASKS))
    queue = QueueUnderTest()
    late = replace(queue.result("a"), run={"at": int(NOON) + 9, "seconds": 1, "worker": "w2"})
    soon = replace(queue.result("b", BROKEN), run={"at": int(NOON), "seconds": 2, "worker": "w1"})
    old = replace(queue.result("c"), run={"seconds": 3, "worker": "w1"})
    queue.commit(queue.shard("a", "b", "c"), inline=[late, soon, old])
    queue.take_inbox("lists.jsonl", b"", [{"line": 3, "why": "is no JSON"}])
    for out in ("one", "two"):
        collect(queue.store, tmp_path / out)
    log = (tmp_path / "one" / "shout.log").read_bytes()
    assert log == (tmp_path / "two" / "shout.log").read_bytes()
    assert [line.split()[1:3] for line in log.decode().splitlines()] == [
        ["refused", "lists.jsonl,"],
        ["ok", "c"],
        ["failed", "b"],
        ["ok", "a"],
    ]
