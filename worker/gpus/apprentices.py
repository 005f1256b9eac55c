"""The processes of one training: they get their cards in their environment, and end with their children."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.gpus.on_pytorch import RENDEZVOUS

PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", RENDEZVOUS)
"""of a process among those of a training; ours is not theirs"""
START = """import json, sys
sys.path += [one for one in json.loads(sys.argv.pop()) if one not in sys.path]
from worker.gpus.trainee import main
main()"""
"""PYTHONPATH would reach what a training starts, of whatever Python"""
GRACE_S = 5.0
"""between SIGTERM, which a training may hear, and SIGKILL"""


@dataclass(frozen=True, slots=True)
class Heard:
    rank: int
    message: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """After all that it said."""

    rank: int
    code: int


class Apprentices:
    """One process, or as many as there are ranks."""

    def __init__(
        self,
        order: Mapping[str, Any],
        environment: Mapping[str, str],
        processes: int,
        hear: Callable[[Heard | Ended], None],
    ) -> None:
        self._hear = hear
        self._folder = tempfile.TemporaryDirectory(prefix="training-")
        self._alive: list[_Apprentice] = []
        ours = {name: value for name, value in os.environ.items() if name not in PLACE}
        try:
            for rank in range(processes):
                place = _place(rank, processes, Path(self._folder.name)) if processes > 1 else {}
                self._alive.append(_Apprentice(rank, order, {**ours, **environment, **place}, hear))
        except OSError:  # no more processes, or no more files
            self.end()
            raise

    def end(self) -> None:
        """All of them, and their children."""
        for one in self._alive:
            one.ask_to_end()
        deadline = time.monotonic() + GRACE_S
        for one in self._alive:
            one.kill_after(deadline - time.monotonic())
        self._folder.cleanup()


class _Apprentice:
    def __init__(
        self, rank: int, order: Mapping[str, Any], environment: Mapping[str, str], hear: Callable[..., None]
    ) -> None:
        self._rank, self._hear = rank, hear
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, json.dumps(_path())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._ended = threading.Event()
        self._reaping = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        assert self._process.stdin
        with suppress(BrokenPipeError):  # it ended before it heard us: that is told
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()

    def ask_to_end(self) -> None:
        self._signal(signal.SIGTERM)

    def kill_after(self, seconds: float) -> None:
        if not self._ended.wait(max(0.0, seconds)):
            self._signal(signal.SIGKILL)
        self._watcher.join()

    def _signal(self, which: signal.Signals) -> None:
        with self._reaping, suppress(ProcessLookupError):
            if self._process.returncode is None:
                os.killpg(self._process.pid, which)

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with suppress(ValueError):  # half a line: it was killed
                self._hear(Heard(self._rank, json.loads(line)))

    def _watch(self) -> None:
        """Its number stays its own until it is waited for: until then its children can be ended by it."""
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._reader.join()
        assert self._process.stdin
        assert self._process.stdout
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        with self._reaping:
            code = self._process.wait()
        self._ended.set()
        self._hear(Ended(self._rank, code))


def _path() -> list[str]:
    """Where modules are found here."""
    return [place or str(Path.cwd()) for place in sys.path]


def _place(rank: int, processes: int, folder: Path) -> Mapping[str, str]:
    """As torchrun tells it; they meet in a file, for a port that is free now may be taken in a moment."""
    number, count = str(rank), str(processes)
    return dict(zip(PLACE, (number, number, count, count, str(folder / "rendezvous")), strict=True))
