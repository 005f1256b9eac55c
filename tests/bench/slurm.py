"""What preemptions cost an array on a real SLURM: nothing may be lost or answered twice, and little time."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests import slurm as harness
from tests.bench.table import Figure, not_here, show
from tests.slurm import Slurm
from tests.slurm_daemons import GPUS, NODES
from tests.workers import answers, eventually, run
from worker.queue import layout, parts
from worker.queue.store import open_store
from worker.queue.text import decode

ITEMS = [f"item {number:03d}" for number in range(600)]
SECONDS = 0.4
TASKS = 4
PREEMPTIONS = 3
DELAY_S = 3
PREEMPTOR_S = 0.5
PATIENCE_S = 600.0


def figures() -> Iterator[Figure]:
    what = f"{TASKS} tasks of an array, {len(ITEMS)} items of {SECONDS:g} s"
    if why := harness.why_not():
        yield Figure(what, not_here(why))
        return
    with harness.cluster() as slurm, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        quiet, _ = drained(slurm, Path(folder) / "quiet", 0)
        yield Figure(f"{what}: all done", f"{quiet:.1f} s")
        queue = Path(folder) / "preempted"
        took, away = drained(slurm, queue, PREEMPTIONS)
        lost, double = len(ITEMS) - len(answers(queue)), answered_twice(queue)
        yield Figure(
            f"the same, half of them preempted {PREEMPTIONS} times: lost, answered twice",
            f"{lost}, {double}",
            "0, 0",
        )
        yield Figure(
            "preempted → running again, "
            f"of which {PREEMPTOR_S:g} s are the other job's and WORKER_REQUEUE_DELAY is {DELAY_S} s",
            f"median {statistics.median(away):.1f} s, worst {max(away):.1f} s of {PREEMPTIONS}",
            "SLURM's own: two minutes",
        )
        yield Figure(
            "the same: all done, against the undisturbed time",
            f"{took:.1f} s, {took / quiet:.2f} times",
            f"1.3 times, and the {sum(away):.0f} s of being away",
        )


def drained(slurm: Slurm, queue: Path, preemptions: int) -> tuple[float, list[float]]:
    """→ seconds from submission until all is done; seconds that the preempted were away"""
    code, said = run("enqueue", queue, "--task", "sleepy", "--set", f"seconds={SECONDS}", *ITEMS)
    assert code == 0, said
    store = open_store(str(queue))
    shards = len(store.list(layout.ITEMS))
    env = {"WORKER_HW": "cpu", "WORKER_VENV": sys.prefix, "WORKER_QUEUE": str(queue)}
    words = (f"--array=1-{TASKS}", f"--gres=gpu:{2 * GPUS // TASKS}", "-o", f"{queue}-log")
    began = time.perf_counter()
    job = slurm.sbatch(*words, "env/slurm/worker.sbatch", env=env | {"WORKER_REQUEUE_DELAY": str(DELAY_S)})

    def done() -> int:
        return len(store.list(layout.DONE))

    away = []
    for number in range(1, preemptions + 1):
        eventually(lambda number=number: done() > shards * number / (preemptions + 1), PATIENCE_S)
        away.append(preempted(slurm, job, NODES[number % len(NODES)]))
    eventually(lambda: done() == shards, PATIENCE_S)
    took = time.perf_counter() - began
    slurm.ended(job)
    return took, away


def preempted(slurm: Slurm, job: str, node: str) -> float:
    """Those tasks of it that run there."""
    before = {one.id: one.restarts for one in slurm.jobs(job) if one.node == node}
    assert before, "nothing ran on that node"
    began = time.perf_counter()
    slurm.preempt(node, PREEMPTOR_S)

    def back() -> bool:
        now = {one.id: one for one in slurm.jobs(job)}
        return all(now[id].restarts > count and now[id].state != "PENDING" for id, count in before.items())

    eventually(back, PATIENCE_S)
    return time.perf_counter() - began


def answered_twice(queue: Path) -> int:
    """Answers in all that was written which another one of the same item precedes."""
    store = open_store(str(queue))
    found: Counter[str] = Counter()
    for entry in store.list(layout.PARTS):
        found.update(result.item for result in parts.unpack(store.get(entry.name) or b"") or ())
    for entry in store.list(layout.DONE):
        if inline := decode(store.get(entry.name) or b"")["inline"]:
            found.update(result.item for result in parts.unpack(inline.encode()) or ())
    assert len(found) == len(ITEMS)
    return sum(found.values()) - len(found)


if __name__ == "__main__":
    show("slurm", figures())
