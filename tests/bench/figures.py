"""`make bench`: the figures of docs/benchmarks.md, measured here, side by side where there is a peer.

Prints one Markdown table. Nothing here is a test: timings are for people to read.
"""

from __future__ import annotations

import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.workers import ROOT, TASKS, end_all, eventually, run, worker
from worker.queue import layout
from worker.queue.store import open_store

ENV = {**os.environ, "PYTHONPATH": str(ROOT), "WORKER_TASKS": str(TASKS)}


def main() -> None:
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()}\n")  # noqa: T201
    print("| what | figure |\n| --- | --- |")  # noqa: T201
    for what, measure in FIGURES.items():
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            print(f"| {what} | {measure(Path(folder))} |", flush=True)  # noqa: T201
        end_all()


def seconds(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True, env=ENV, cwd=ROOT)
    return time.perf_counter() - began


def help_against_click(_: Path) -> str:
    """In turns, so that both see the same machine."""
    pairs = [(seconds("-m", "worker", "--help"), seconds("-c", "import click")) for _ in range(15)]
    ours, clicks = (statistics.median(column) for column in zip(*pairs, strict=True))
    return f"{ours * 1000:.0f} ms against {clicks * 1000:.0f} ms: {ours / clicks:.2f} times"


def sigterm_to_released(folder: Path) -> str:
    """A worker that waits in the middle of a shard, with no batch in hand: its child prepares."""
    times = []
    for number in range(5):
        queue = folder / str(number)
        run("enqueue", queue, "--task", "prepared", "--set", "seconds=30", "a", "b")
        one = worker("run", queue)
        store = open_store(str(queue))
        eventually(lambda store=store: store.list(layout.CLAIMS))
        time.sleep(0.5)
        began = time.perf_counter()
        one.send_signal(signal.SIGTERM)
        eventually(lambda store=store: any(e.name.endswith(".released") for e in store.list(layout.CLAIMS)))
        times.append(time.perf_counter() - began)
        one.wait(20)
    return f"median {statistics.median(times):.2f} s, worst {max(times):.2f} s of {len(times)}"


def kill_to_takeover(folder: Path) -> str:
    """kill -9 of all processes of a worker; a second one has looked at its claim already."""
    ttl, times = 5.0, []
    for number in range(3):
        queue = folder / str(number)
        run("enqueue", queue, "--task", "sleepy", "--set", "seconds=60", "a")
        first = worker("run", queue, "--ttl", f"{ttl}s")
        store = open_store(str(queue))
        eventually(lambda store=store: store.list(layout.CLAIMS))
        second = worker("run", queue, "--ttl", f"{ttl}s")
        eventually(lambda store=store: len(store.list(layout.WORKERS)) == 2)
        time.sleep(1.0)
        first.signal_all(signal.SIGKILL)
        began = time.perf_counter()
        eventually(lambda store=store: len(store.list(layout.CLAIMS)) == 2, timeout=30)
        times.append(time.perf_counter() - began)
        second.signal_all(signal.SIGKILL)
    worst = max(times)
    return f"TTL {ttl:g} s: median {statistics.median(times):.1f} s, worst {worst:.1f} s of {len(times)}"


def trivial_items(folder: Path) -> str:
    """Durable, results kept, enqueue and collect not counted."""
    count = 20_000
    (folder / "list.txt").write_text("\n".join(f"item {number}" for number in range(count)))
    run("enqueue", folder / "queue", "--task", "shout", folder / "list.txt", timeout=120)
    began = time.perf_counter()
    code, said = run("run", folder / "queue", "--batch", "64", timeout=300)
    spent = time.perf_counter() - began
    assert code == 0, said
    return f"{count / spent:,.0f} items/s, start of the worker included"


def make_run(folder: Path) -> str:
    clone = folder / "fresh"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    began = time.perf_counter()
    done = subprocess.run(["make", "run"], cwd=clone, check=True, capture_output=True, text=True)
    spent = time.perf_counter() - began
    items = re.search(r"total\s+(\d+)|items\s+(\d+)", done.stdout)
    return (
        f"{spent:.0f} s for {next(n for n in items.groups() if n) if items else '?'} items, set-up included"
    )


FIGURES: dict[str, Callable[[Path], str]] = {
    '`worker --help` against `python -c "import click"`': help_against_click,
    "SIGTERM → shard released, no batch in hand": sigterm_to_released,
    "kill -9 → taken over": kill_to_takeover,
    "trivial items on a directory, durable": trivial_items,
    "`make run` in a fresh clone": make_run,
}

if __name__ == "__main__":
    main()
