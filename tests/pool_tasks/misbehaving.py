"""A task whose items say what their preparation does: "sleep 5", "segfault"."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from worker import signs
from worker.errors import ItemError
from worker.items import Failure, Item
from worker.tasks.task import MapTask, Params


class Tagged(Params):
    tag: str = ""


class Misbehaving(MapTask[Tagged, object]):
    name = "misbehaving"
    about = "dies, hangs and starves on demand"
    params_type = Tagged
    takes = "values"

    def prepare(self, item: Item) -> object:
        verb, _, argument = item.input.partition(" ")
        return getattr(self, f"_{verb}")(argument)

    def _say(self, word: str) -> str:
        return f"{self.params.tag}{word}"

    def _pid(self, seconds: str) -> int:
        time.sleep(float(seconds or 0))
        return os.getpid()

    def _parent(self, _: str) -> int:
        return os.getppid()

    def _comm(self, _: str) -> tuple[str, str | None]:
        return Path("/proc/self/comm").read_text().strip(), os.environ.get("OMP_NUM_THREADS")

    def _segfault(self, _: str) -> None:
        ctypes.string_at(0)

    def _exit(self, status: str) -> None:
        os._exit(int(status))

    def _kill(self, _: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _stopsignals(self, _: str) -> str:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        return "still here"

    def _spin(self, _: str) -> None:
        while True:
            pass

    def _sleep(self, seconds: str) -> str:
        time.sleep(float(seconds))
        return seconds

    def _work(self, seconds: str) -> str:
        """Slowly, but it gets on."""
        until = time.monotonic() + float(seconds)
        while time.monotonic() < until:
            signs.give()
            time.sleep(0.05)
        return seconds

    def _stall(self, seconds: str) -> None:
        self._work(seconds)
        self._spin("")

    def _await(self, file: str) -> str:
        while not Path(file).exists():
            time.sleep(0.01)
        return file

    def _touch(self, file: str) -> str:
        Path(file).touch()
        return "touched"

    def _family(self, file: str) -> None:
        """Starts a program of its own, and hangs."""
        program = subprocess.Popen(["sleep", "60"])
        Path(file).write_text(f"{os.getpid()} {program.pid}")
        time.sleep(60)

    def _array(self, megabytes: str) -> np.ndarray[Any, Any]:
        return np.ones(int(megabytes) << 20, dtype=np.uint8)

    def _hoard(self, megabytes: str) -> int:
        """Needs a little at a time, as a leak does, and keeps it."""
        for _ in range(int(megabytes)):
            self.__dict__.setdefault("kept", []).append(bytearray(1 << 20))
        return len(self.__dict__["kept"])

    def _generator(self, _: str) -> object:
        return (number for number in range(3))

    def _unreadable(self, _: str) -> object:
        return Unreadable()

    def _refuse(self, why: str) -> None:
        raise ItemError("refused", why)

    def _raise(self, why: str) -> None:
        raise ValueError(why)

    def _ill(self, _: str) -> None:
        raise OSError(5, "Input/output error")

    def _fail(self, why: str) -> Failure:
        return Failure("given", why)

    def _once(self, file: str) -> int:
        """Dies the first time, and works the second."""
        if not Path(file).exists():
            Path(file).touch()
            os._exit(7)
        return os.getpid()


class Unreadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("not a number",)
