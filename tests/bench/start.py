"""How long until something happens: the help, and the first run of a fresh clone."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.table import Figure, show
from tests.workers import ROOT


def figures() -> Iterator[Figure]:
    # in turns, so that both see the same machine
    pairs = [(seconds("-m", "worker", "--help"), seconds("-c", "import click")) for _ in range(15)]
    ours, clicks = (statistics.median(column) for column in zip(*pairs, strict=True))
    yield Figure(
        '`worker --help` against `python -c "import click"`',
        f"{ours * 1000:.0f} ms against {clicks * 1000:.0f} ms: {ours / clicks:.2f} times",
        "at most 3 times",
    )
    yield Figure("`make run` in a fresh clone, set-up included", make_run(), "under 2 minutes")


def seconds(*command: str) -> float:
    began = time.perf_counter()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *command], check=True, capture_output=True, env=env, cwd=ROOT)
    return time.perf_counter() - began


def make_run() -> str:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        clone = Path(folder) / "fresh"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        began = time.perf_counter()
        done = subprocess.run(["make", "run"], cwd=clone, check=True, capture_output=True, text=True)
        spent = time.perf_counter() - began
    items = re.search(r"(?:total|items)\s+(\d+)", done.stdout)
    return f"{spent:.0f} s for {items[1] if items else '?'} items"


if __name__ == "__main__":
    show("start", figures())
