"""A workspace as ranks have it: that of rank 0 lies at the other end of a line, the others need none."""

from __future__ import annotations

import math
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.errors import UnfinishedError
from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Checkpoint
from worker.ranks.channel import Channel
from worker.ranks.words import (
    Alive,
    Begin,
    Best,
    Found,
    NotSaved,
    Place,
    Progress,
    Publish,
    Save,
    Saved,
    Settle,
    Stop,
    Wanted,
    Wish,
    Word,
)

ALIVE_S = 1.0


class Remote:
    """Has the methods of a Workspace."""

    def __init__(
        self, begin: Begin, channel: Channel, stop: StopFlag, alone: Callable[[], None] | None = None
    ) -> None:
        """`alone`: what to do when nobody is left who would hear us."""
        self.folder = Path(begin.folder)
        self.halved = begin.halved
        self._found = begin.found
        self._channel = channel
        self._stop = stop
        self._alone = alone or (lambda: os.killpg(0, signal.SIGKILL))
        self._answers: queue.SimpleQueue[Word] = queue.SimpleQueue()
        self._told = 0.0
        threading.Thread(target=self._listen, name="ear", daemon=True).start()

    def resume(self) -> Checkpoint | None:
        return _fetched(self._found)

    @contextmanager
    def checkpoint(self, step: int, score: float | None = None) -> Iterator[Path]:
        kept = None if score is None or not math.isfinite(score) else float(score)
        place = self._ask(Save(int(step), kept))
        assert isinstance(place, Place)
        try:
            yield Path(place.folder)
        except BaseException:
            self._channel.send(NotSaved())
            raise
        self._ask(Saved())

    def progress(self, step: int, steps: int | None = None, **figures: float) -> None:
        """Not for each of a thousand steps a second."""
        now = time.monotonic()
        if now - self._told >= ALIVE_S / 4:
            self._told = now
            told = {name: float(value) for name, value in figures.items()}
            self._channel.send(Progress(int(step), None if steps is None else int(steps), told))

    def alive(self) -> None:
        now = time.monotonic()
        if now - self._told >= ALIVE_S:
            self._told = now
            self._channel.send(Alive())

    def best(self, wanted: Callable[[str], bool] = lambda _: True) -> Checkpoint | None:
        answer = self._ask(Best())
        while isinstance(answer, Wanted):
            answer = self._ask(Wish(wanted(answer.name)))
        return _fetched(answer) if isinstance(answer, Found) else None

    def settle(self) -> None:
        self._ask(Settle())

    wait = settle

    def publish(self, name: str, file: Path) -> None:
        self._ask(Publish(name, str(file.resolve())))

    def _ask(self, word: Word) -> Word:
        if not self._channel.send(word):
            raise UnfinishedError("the worker that this rank belongs to is gone")
        return self._answers.get()

    def _listen(self) -> None:
        while (word := self._channel.receive()) is not None:
            if isinstance(word, Stop):
                self._stop.set(word.reason, word.time_left)
            else:
                self._answers.put(word)
        self._alone()


class Bystander:
    """That of the other ranks. They are told whence to go on; rank 0 saves, tells and publishes for all."""

    def __init__(self, begin: Begin) -> None:
        self.folder = Path(begin.folder)
        self.halved = begin.halved
        self._found = begin.found

    def resume(self) -> Checkpoint | None:
        return _fetched(self._found)

    @contextmanager
    def checkpoint(self, step: int, score: float | None = None) -> Iterator[Path]:  # noqa: ARG002
        raise AssertionError("rank 0 alone makes checkpoints")
        yield self.folder

    def progress(self, step: int, steps: int | None = None, **figures: float) -> None:
        pass

    def alive(self) -> None:
        pass

    def settle(self) -> None:
        pass

    wait = settle

    def best(self, wanted: Callable[[str], bool] = lambda _: True) -> Checkpoint | None:  # noqa: ARG002
        return None

    def publish(self, name: str, file: Path) -> None:
        pass


def _fetched(found: Found | None) -> Checkpoint | None:
    return Checkpoint(found.step, found.score, Path(found.folder)) if found else None
