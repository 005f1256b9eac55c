"""What a container's health check asks: `python -m worker.health` ends with 0 while its worker is well.

With --metrics the worker itself is asked; without, or while it does not listen yet or any more, what the
system says of its process has to do. One that is dead needs no check: its container has ended."""

from __future__ import annotations

import os
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

ASLEEP = {"T": "is stopped", "t": "is stopped by a debugger", "Z": "is dead"}
ANSWERS_WITHIN_S = 10.0


def ills(metrics: str | None, state: str) -> str:
    """What is wrong with a worker whose process is in that state, and that tells these metrics."""
    if state in ASLEEP:
        return f"the worker's process {ASLEEP[state]}"
    if metrics is None:
        return ""
    up = re.findall(r"^worker_up\{.*\} (\S+)$", metrics, re.MULTILINE)
    return "no working process is up" if up and not any(float(one) for one in up) else ""


def metrics_at(port: str) -> str | None:
    """None: nobody listens, for the worker still reads its inputs, or writes the answers already."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=ANSWERS_WITHIN_S) as answer:
            return str(answer.read().decode())
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            return None
        raise


def state_of(process: Path) -> str:
    """One letter, as `ps` shows it."""
    found = re.search(r"^State:\s+(\w)", (process / "status").read_text(), re.MULTILINE)
    return found[1] if found else ""


def main() -> int:
    port = os.environ.get("WORKER_METRICS")
    try:
        said = ills(metrics_at(port) if port else None, state_of(Path("/proc/1")))
    except OSError as error:
        said = f"the worker does not answer: {error}"
    print(said or "well")  # noqa: T201
    return bool(said)


if __name__ == "__main__":
    sys.exit(main())
