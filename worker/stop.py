"""Every way of being told to stop becomes one StopSignal with a reason and a time left.

For the small parent process, which owns the signals. Zombies that are not its own stay: waiting for
any child would steal the exit statuses that multiprocessing waits for. (`docker run --init` reaps.)
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol, Self

from worker import early

GRACE_S = 25.0
"""what is left after SIGTERM: docker, Kubernetes and SLURM kill after 30 s as a rule"""
WARNING_S = 55.0
"""what is left after SIGUSR1: `sbatch --signal=USR1@60`"""


@dataclass(frozen=True, slots=True)
class StopSignal:
    """Stop, and why, and how long that may take."""

    reason: str
    time_left: float
    """seconds, from when it was noticed"""
    urgent: bool = False
    """a person does not want to wait: at once"""
    noticed: float = field(default_factory=time.monotonic)

    @property
    def ends(self) -> float:
        """When the time is up, by time.monotonic."""
        return self.noticed + self.time_left


class Ear(Protocol):
    """What one worker needs to hear of a stop; its descriptor is readable when there is something new."""

    @property
    def current(self) -> StopSignal | None: ...
    def fileno(self) -> int: ...
    def drain(self) -> None: ...


class StopListener:
    """Hears SIGTERM, SIGINT, SIGUSR1, a deadline, and a cloud's notice that it takes the machine.

    Its descriptor becomes readable when there is something new: a select over it and others wakes in
    milliseconds. To be opened in the main thread."""

    def __init__(
        self,
        *,
        grace: float = GRACE_S,
        warning: float = WARNING_S,
        stop_after: float | None = None,
        events_url: str | None = None,
    ) -> None:
        self._grace = grace
        self._warning = warning
        self._events_url = events_url
        self._interrupts = 0
        # Only ever appended to: a signal's handler may interrupt anything here, so there is no lock.
        self._heard: list[StopSignal] = []
        self._closed = threading.Event()
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)
        self._deadline: threading.Timer | None = None
        if stop_after is not None:
            # Early enough to end by then; a short run still has half its time for work.
            left = min(grace, stop_after / 2)
            self._deadline = threading.Timer(stop_after - left, self._tell, ["--stop-after", left])
            self._deadline.daemon = True

    def __enter__(self) -> Self:
        if self._deadline:
            self._deadline.start()
        if self._events_url is not None:
            from worker.evictions import watch_events  # late: few machines have notices

            watch_events(self._events_url, self._tell, self._closed)
        handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {
            signal.SIGTERM: lambda *_: self._tell("SIGTERM", self._grace),
            signal.SIGUSR1: lambda *_: self._tell("SIGUSR1", self._warning),
            signal.SIGINT: lambda *_: self._interrupt(),
        }
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        if early.heard:  # and swallowed by what it interrupted
            self._tell(early.heard[0], self._grace)
        # A handler in Python runs only once the select is over; this byte ends the select.
        self._wakeup_before = signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._closed.set()
        if self._deadline:
            self._deadline.cancel()
        self._bell.close()
        self._ear.close()

    @property
    def current(self) -> StopSignal | None:
        """Of all that was heard, what leaves the least time."""
        return min(self._heard, key=lambda stop: (not stop.urgent, stop.ends), default=None)

    def fileno(self) -> int:
        return self._ear.fileno()

    def drain(self) -> None:
        """Before a look at `current`: the descriptor is readable again after the next stop."""
        with suppress(BlockingIOError):
            while self._ear.recv(4096):
                pass

    def _interrupt(self) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            self._tell("Ctrl-C", self._grace)
        else:
            self._tell("Ctrl-C twice", 0.0, urgent=True)

    def _tell(self, reason: str, time_left: float, urgent: bool = False) -> None:
        self._heard.append(StopSignal(reason, time_left, urgent))
        with suppress(OSError):  # it rings already, or we are closed
            self._bell.send(b"!")


class Relay:
    """An ear of one's own at a listener that others listen to as well: who opened that one rings it."""

    def __init__(self, listener: Ear) -> None:
        self._listener = listener
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._bell)

    @property
    def current(self) -> StopSignal | None:
        return self._listener.current

    def fileno(self) -> int:
        return self._bell

    def drain(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell)

    def ring(self) -> None:
        os.eventfd_write(self._bell, 1)
