"""How much memory a worker takes on a long queue: the high-water mark that the kernel keeps."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.bench.peers import must
from tests.bench.table import Figure, show
from tests.workers import end_all, processes_of, run, worker

COUNTS = (1_000, 100_000)


def figures() -> Iterator[Figure]:
    for count in COUNTS:
        with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
            peaks = peaks_of_a_run(Path(folder), count)
            end_all()
        told = ", ".join(f"{what} {megabytes:.0f} MB" for what, megabytes in sorted(peaks.items()))
        yield Figure(f"resident memory at its peak, {count:,} texts in a folder, one worker", told, "250 MB")


def peaks_of_a_run(folder: Path, count: int) -> dict[str, float]:
    """Looked at all the time, for a process that ended has none; the last tenth of a second is not seen."""
    texts = folder / "texts.txt"
    texts.write_text("\n".join(f"item {number}" for number in range(count)))
    must(*run("enqueue", folder / "queue", "--task", "shout", texts, timeout=600))
    one = worker("run", folder / "queue", "--batch", "64")
    peaks: dict[int, float] = {}
    while one.poll() is None:
        for pid in processes_of(one.mark):
            with suppress(OSError):  # it ended meanwhile
                peaks[pid] = max(peaks.get(pid, 0.0), high_water(pid))
        time.sleep(0.1)
    must(one.returncode, one.said)
    parent = peaks.pop(one.pid)
    return {"parent, which collects": parent, "working process": max(peaks.values())}


def high_water(pid: int) -> float:
    """VmHWM, in MB"""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1e3 if found else 0.0  # a zombie has none


if __name__ == "__main__":
    show("memory", figures())
