"""How long one waits for the doctor, without a queue and with all that it can be asked."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.table import Figure, show
from tests.workers import ROOT

TIMES = 5
ASKED = ("--for", "pcb", "--model", "Qwen/Qwen3-VL-32B-Instruct")


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        queue = ("--queue", str(Path(folder) / "queue"))
        cases = {"worker doctor": (), "worker doctor --queue … --for pcb --model …": (*queue, *ASKED)}
        # in turns, so that all see the same machine
        taken = [{name: seconds(*arguments) for name, arguments in cases.items()} for _ in range(TIMES)]
    for name in cases:
        column = [one[name] for one in taken]
        waited, computed = (statistics.median(one) for one in zip(*column, strict=True))
        told = f"median of {TIMES} {waited:.2f} s, of which {computed:.2f} s on the CPU"
        yield Figure(f"`{name}`, no card whose libraries are tried", told, "under 5 s")


def seconds(*arguments: str) -> tuple[float, float]:
    """That one waits, and of processor time."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    env = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    command = [sys.executable, "-m", "worker", "doctor", *arguments]
    done = subprocess.run(command, env={**env, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False)
    assert done.returncode in (0, 3), done.stderr
    after, waited = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    return waited, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    show("doctor", figures())
