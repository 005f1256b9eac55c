"""The pipe between a worker's two processes: the small parent that beats, and the loop that works."""

from __future__ import annotations

import select
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from worker.clock import Clock
from worker.items import Json
from worker.queue.beat import Claim
from worker.settings import Settings

# from the loop


@dataclass(frozen=True, slots=True)
class Say:
    """What the next beat shall list."""

    claims: frozenset[Claim]
    hand: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BeatNow:
    token: int


@dataclass(frozen=True, slots=True)
class Alive:
    """The loop went round. It says so about once a second; long silence means that it hangs."""

    info: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class End:
    """The loop ends in good order. An end without this word is a death."""

    code: int
    text: str = ""


# from the parent


@dataclass(frozen=True, slots=True)
class Start:
    """The first word."""

    settings: Settings
    worker: str
    scratch: Path
    """the parent's to remove: the working process may die"""


@dataclass(frozen=True, slots=True)
class Heard:
    """A beat was acknowledged; it listed everything said before BeatNow(token)."""

    acknowledged: float
    gaps: int
    token: int


@dataclass(frozen=True, slots=True)
class Stop:
    reason: str
    time_left: float


class Line:
    """One end of the pipe; any thread may send."""

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self.pipe = pipe
        self._lock = threading.Lock()

    def send(self, message: Say | BeatNow | Alive | End | Heard | Stop) -> bool:
        """False: the other side is gone."""
        try:
            with self._lock:
                self.pipe.send(message)
        except OSError:
            return False
        return True

    def offer(self, message: Heard | Stop) -> bool:
        """Send without ever waiting: a process that does not read must not make its parent deaf."""
        try:
            if not select.select([], [self.pipe], [], 0)[1]:
                return False
        except (OSError, ValueError):
            return False
        return self.send(message)


class RemoteLife:
    """The loop's side of a heart that beats in the parent (queue.beat.Life)."""

    def __init__(self, worker: str, ttl: float, clock: Clock, line: Line) -> None:
        self.worker = worker
        self.ttl = ttl
        self._clock = clock
        self._line = line
        self._heard = Heard(clock.now(), 0, 0)
        self._token = 0
        self._said = self._told = Say(frozenset(), ())
        self._telling = threading.Lock()
        self._news = threading.Condition()
        self._closed = False

    @property
    def gaps(self) -> int:
        heard = self._heard
        return heard.gaps + (self._clock.now() - heard.acknowledged > self.ttl)

    def say(self, claims: frozenset[Claim], hand: tuple[str, ...]) -> None:
        """What is new is told at once. What is gone may wait for the next word: it harms nobody in a beat."""
        with self._telling:
            self._said = Say(claims, hand)
            if claims <= self._told.claims and set(hand) <= set(self._told.hand):
                return
            self._tell()

    def tell(self) -> None:
        """All that was said."""
        with self._telling:
            self._tell()

    def _tell(self) -> None:
        if self._said != self._told:
            self._told = self._said
            self._line.send(self._said)

    def beat_now(self) -> bool:
        self.tell()
        with self._news:
            self._token += 1
            token = self._token
            self._line.send(BeatNow(token))
            self._news.wait_for(lambda: self._closed or self._heard.token >= token, self.ttl)
            return self._heard.token >= token

    def hear(self, heard: Heard) -> None:
        with self._news:
            self._heard = heard
            self._news.notify_all()

    def close(self) -> None:
        """Nobody waits any longer: the worker is told to stop."""
        with self._news:
            self._closed = True
            self._news.notify_all()
