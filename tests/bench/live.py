"""How long after its end a window of a live stream is answered: a camera on this machine, a minute each."""

from __future__ import annotations

import signal
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.table import Figure, show
from tests.streams import camera
from tests.workers import answered_at, end_all, eventually, finish, worker

WINDOWS = 12


def figures() -> Iterator[Figure]:
    for options, aim in (((), ""), (("--still", "0.5", "--ttl", "8"), "under 5 s")):
        with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
            delays = delays_of(Path(folder), options)
        end_all()
        said = " ".join(options) or "no other option"
        yield Figure(
            f"end of a window → its answer, `worker run --follow`, {said}",
            f"median {statistics.median(delays):.1f} s, worst {max(delays):.1f} s of {len(delays)}",
            aim,
        )


def delays_of(place: Path, options: Sequence[str]) -> list[float]:
    """media-check costs little here: what a window takes to be answered comes on top."""
    queue, folder = place / "queue", place / "camera"
    folder.mkdir()
    worker("run", queue, "--task", "media-check", "--follow", *options, folder)
    with camera() as url:
        recorder = worker("record", url, folder, "--window", "5", "--overlap", "1")
        eventually(lambda: len(whole(folder)) >= WINDOWS, timeout=120)
        recorder.send_signal(signal.SIGTERM)
        finish(recorder)
    files = {file.name: file.stat().st_mtime for file in whole(folder)}
    eventually(lambda: len(answered_at(queue)) == len(files), timeout=60)
    return [at - files[name] for name, at in answered_at(queue).items()]


def whole(folder: Path) -> list[Path]:
    return list(folder.glob("2*.mkv"))


if __name__ == "__main__":
    show("live", figures())
