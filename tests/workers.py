"""Real workers for tests: start them, wait for them, look for what they leave behind, read their answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar
from uuid import uuid4

from worker.items import Result
from worker.queue import layout
from worker.queue.answers import read_done
from worker.queue.finals import final_answers
from worker.queue.store import open_store

ROOT = Path(__file__).parents[1]
TASKS = Path(__file__).with_name("tasks")
MARK = "TEST_MARK"
"""the variable by which a worker's processes are known: they all inherit it"""

PATIENCE_S = 60.0
"""tells what hangs from what is slow, on the slowest machine; a test that promises less time says how much"""

T = TypeVar("T")


class Worker(subprocess.Popen[bytes]):
    """A `worker` command in a process group of its own; what it says goes to a file, so it never blocks."""

    def __init__(self, arguments: list[str], env: Mapping[str, str], cwd: Path) -> None:
        self.mark = uuid4().hex
        self._temp = tempfile.TemporaryDirectory(prefix="w-", ignore_cleanup_errors=True)
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        super().__init__(
            [sys.executable, "-m", "worker", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            env={**env, MARK: self.mark, "TMPDIR": self._temp.name},
            cwd=cwd,
            start_new_session=True,
        )

    @property
    def temp(self) -> Path:
        """Its TMPDIR."""
        return Path(self._temp.name)

    @property
    def said(self) -> str:
        """stderr so far, of all its processes"""
        size = os.fstat(self._said.fileno()).st_size
        return os.pread(self._said.fileno(), size, 0).decode(errors="replace")

    def left_behind(self) -> list[Path]:
        """Its temporary folders."""
        return list(self.temp.glob("worker-*"))

    def clean_up(self) -> None:
        self.signal_all(signal.SIGKILL)
        self.wait()
        self._said.close()
        self._temp.cleanup()

    def signal_group(self, number: signal.Signals) -> None:
        """As a terminal's Ctrl-C does: to the command and to what shares its group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def signal_all(self, number: signal.Signals) -> None:
        """To every process of it, wherever."""
        for pid in processes_of(self.mark):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


_started: list[Worker] = []


def worker(*arguments: object, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> Worker:
    """`worker` with these arguments. Of the developer's environment no WORKER_… counts."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    own = {"PYTHONPATH": str(ROOT), "WORKER_TASKS": str(TASKS), "PYTHONDONTWRITEBYTECODE": "1"}
    _started.append(Worker([str(one) for one in arguments], {**clean, **own, **(env or {})}, cwd))
    return _started[-1]


def finish(process: Worker, timeout: float = PATIENCE_S) -> tuple[int, str]:
    """→ exit code, stderr"""
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        said = process.said
        process.signal_all(signal.SIGKILL)
        raise AssertionError(f"still running after {timeout:g} s; it said:\n{said}") from None
    return process.returncode, process.said


def run(*arguments: object, timeout: float = PATIENCE_S, **options: Any) -> tuple[int, str]:
    return finish(worker(*arguments, **options), timeout)


def end_all() -> None:
    """For a fixture's end: nothing that a test started outlives it."""
    for process in _started:
        process.clean_up()
    _started.clear()


def answers(queue: str | Path) -> dict[str, Result]:
    """The one final answer of each input. Every done record is checked; open shards have none."""
    store = open_store(str(queue))
    names = [layout.shard_of(entry.name) for entry in store.list(layout.DONE)]
    found = list(final_answers(read_done(store, name) for name in names))
    assert len({one.input for one in found}) == len(found), "one input was answered under two ids"
    return {one.input: one for one in found}


def answered_at(queue: Path) -> dict[str, float]:
    """Input → when its answer was in a queue that is a folder."""
    store = open_store(str(queue))
    found = {}
    for entry in store.list(layout.DONE):
        shard = layout.shard_of(entry.name)
        for item in read_done(store, shard).shard.items:
            found[item.input] = (queue / entry.name).stat().st_mtime
    return found


def counts(queue: str | Path) -> dict[str, int]:
    """How many objects of each kind a queue has: {"items": 3, "done": 3, …}"""
    found: dict[str, int] = {}
    for entry in open_store(str(queue)).list():
        kind = entry.name.split("/")[0]
        found[kind] = found.get(kind, 0) + 1
    return found


def heeds_signals(one: Worker) -> bool:
    """Its own code has begun, and catches SIGTERM: Python by itself does not."""
    with suppress(OSError):
        caught = Path(f"/proc/{one.pid}/status").read_text().partition("SigCgt:")[2].split()[0]
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
    return False


def processes_of(mark: str) -> list[int]:
    """Every living process that inherited this mark."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # it ended meanwhile; a zombie has no environment
                if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


def eventually(question: Callable[[], T], timeout: float = PATIENCE_S) -> T:
    """The first answer that is true; asked again and again."""
    until = time.monotonic() + timeout
    while not (answer := question()):
        assert time.monotonic() < until, f"it did not come true in {timeout:g} s"
        time.sleep(0.02)
    return answer
