"""How long a shard waits when its worker is stopped or killed; seen from outside, by looking at the queue."""

from __future__ import annotations

import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.table import Figure, show
from tests.workers import end_all, eventually, run, worker
from worker.queue import layout
from worker.queue.store import open_store

TTL = 5.0


def figures() -> Iterator[Figure]:
    for what, measure, times, aim in (
        ("SIGTERM → shard released, no batch in hand", sigterm_to_released, 5, "under 1 s"),
        (f"kill -9 of all its processes → taken over, TTL {TTL:g} s", kill_to_takeover, 5, "TTL + 2 s"),
    ):
        taken = []
        for _ in range(times):
            with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
                taken.append(measure(Path(folder) / "queue"))
                end_all()
        yield Figure(
            what, f"median {statistics.median(taken):.2f} s, worst {max(taken):.2f} s of {times}", aim
        )


def sigterm_to_released(queue: Path) -> float:
    """A worker that waits in the middle of a shard: its child prepares."""
    run("enqueue", queue, "--task", "prepared", "--set", "seconds=30", "a", "b")
    one = worker("run", queue)
    store = open_store(str(queue))
    eventually(lambda: store.list(layout.CLAIMS))
    time.sleep(0.5)
    began = time.perf_counter()
    one.send_signal(signal.SIGTERM)
    eventually(lambda: any(e.name.endswith(".released") for e in store.list(layout.CLAIMS)))
    spent = time.perf_counter() - began
    one.wait(20)
    return spent


def kill_to_takeover(queue: Path) -> float:
    """A second worker has looked at its claim already."""
    run("enqueue", queue, "--task", "sleepy", "--set", "seconds=60", "a")
    first = worker("run", queue, "--ttl", f"{TTL}s")
    store = open_store(str(queue))
    eventually(lambda: store.list(layout.CLAIMS))
    worker("run", queue, "--ttl", f"{TTL}s")
    eventually(lambda: len(store.list(layout.WORKERS)) == 2)
    time.sleep(1.0)
    first.signal_all(signal.SIGKILL)
    began = time.perf_counter()
    eventually(lambda: len(store.list(layout.CLAIMS)) == 2, timeout=30)
    return time.perf_counter() - began


if __name__ == "__main__":
    show("stopping", figures())
