"""`python -m tests.bench.million [N]`: a queue of N items is filled, looked at and collected.

Prints one Markdown table. Each row is measured in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.workers import ROOT, TASKS
from worker.clock import Clock
from worker.enqueue import Wanted, enqueue
from worker.items import Answer, Failure, Item, Result
from worker.queue.answers import read_shard
from worker.queue.holding import Holding
from worker.queue.layout import ITEMS, shard_of
from worker.queue.progress import Watcher
from worker.queue.store import open_store
from worker.report.collect import collect

FAILS_EVERY = 1000
WORKER = "3a044027d6e84cb6a0d4b4b7a2f9f6f1"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    os.environ.update(PYTHONPATH=str(ROOT), WORKER_TASKS=str(TASKS))
    os.fsync = lambda _: None  # nothing here need survive a power cut, and the disk is not what is measured
    print(f"| {count:,} items, on a directory | seconds | MB |\n| --- | --- | --- |")  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="million-") as folder:
        for step in (fill, work, look, gather):
            seconds, megabytes = measured(step, Path(folder), count)
            print(f"| {step.__doc__} | {seconds:.1f} | {megabytes:.0f} |", flush=True)  # noqa: T201


def measured(step: Callable[[Path, int], None], folder: Path, count: int) -> tuple[float, float]:
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_measure, args=(there, step, folder, count))
    process.start()
    there.close()
    seconds, kilobytes = here.recv()
    process.join()
    return seconds, kilobytes / 1024


def _measure(pipe: Any, step: Callable[[Path, int], None], folder: Path, count: int) -> None:
    began = time.perf_counter()
    step(folder, count)
    pipe.send((time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def fill(folder: Path, count: int) -> None:
    """enqueue a list"""
    names = folder / "list.txt"
    names.write_text("".join(f"clips/camera {n % 97}/drive {n:08}.mp4\n" for n in range(count)))
    enqueue(open_store(str(folder / "queue"), make=True), Wanted("shout"), [str(names)], None)


def work(folder: Path, count: int) -> None:
    """(answer and commit all shards)"""
    del count
    store = open_store(str(folder / "queue"))
    for entry in store.list(ITEMS):
        shard = read_shard(store, shard_of(entry.name))
        holding = Holding(
            store,
            Alone(),
            shard,
            1,
            careful=False,
            inherited={},
            answers={},
            killers=frozenset(),
            hand=lambda *_: None,
            forget=lambda _: None,
        )
        holding.add([answer(item) for item in shard.items])
        holding.commit()


class Alone:
    """The life of a worker that nobody watches."""

    worker, ttl, gaps = WORKER, 60.0, 0

    def say(self, *_: object) -> None: ...

    def beat_now(self) -> bool:
        return True


def answer(item: Item) -> Result:
    """About as large as one of media-check."""
    number = int(item.id[:8], 16)
    run = {"seconds": round(number % 977 / 100, 3), "worker": WORKER, "attempt": 1}
    if number % FAILS_EVERY == 0:
        return Result(item.id, item.input, Failure("truncated", "57 of 100 frames readable"), run=run)
    keys = {
        "kind": "video",
        "codec": "h264",
        "width": 640,
        "height": 360,
        "frame_rate": 25.0,
        "black": [[1.0, 2.0]],
    }
    return Result(
        item.id, item.input, Answer({**keys, "frames": number % 5000, "shout": item.input}), run=run
    )


def look(folder: Path, count: int) -> None:
    """status"""
    progress = Watcher(open_store(str(folder / "queue")), Clock()).look()
    assert progress.is_over
    assert progress.answered == count


def gather(folder: Path, count: int) -> None:
    """collect"""
    assert collect(open_store(str(folder / "queue")), folder / "out").summary["total"] == count


if __name__ == "__main__":
    main()
