"""Child processes that prepare items. A child's death, hang or hunger costs its item, and no other.

Our own, because concurrent.futures gives up the whole pool when one process dies. Each child has one
item at a time, so it is always known whose fault a death is. All work happens inside of submit and
poll, in the caller's thread; at every moment an item is in one place: waiting, a child's, or finished.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, forkserver, resource_tracker, util
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol

from worker import child
from worker.child import Begun, OpenItem, Reply, Setup
from worker.engines.choice import Choice
from worker.items import Failure, Item, Json
from worker.signs import Stamp
from worker.tasks import registry

START_S = 60.0
"""how long a child may take until it has its first item in hand"""
RESTART_S = 5.0
"""how long the death of the fork server may take to be noticed"""
TRIES = 2
PAUSE_S = 5.0
"""a look that comes so much too late: perhaps all of us were stopped, not the child alone"""

# One thread a child: there are as many children as cores.
THREADS = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What became of a submitted item."""

    item: Item
    outcome: object | Failure
    """the task's sample, or why there is none"""
    seconds: float


class Preparing(Protocol):
    """Samples from items: a pool of child processes, or nothing to do (passing.py)."""

    @property
    def under_way(self) -> int: ...
    def submit(self, item: Item) -> None: ...
    def poll(self, timeout: float) -> list[Prepared]: ...
    def wake(self) -> None: ...
    def drop(self) -> list[Item]: ...


class Pool:
    """At most `size` children; each is started when an item waits for it."""

    def __init__(
        self,
        task_name: str,
        params: Mapping[str, Json],
        size: int,
        choice: Choice | None = None,
        *,
        limit_s: float,
        memory_gb: float,
        open_item: OpenItem = nullcontext,
        fits: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self._size = size
        self._limit_s = limit_s
        self._hung = Failure(
            "timeout",
            f"no sign of life for {limit_s:g} s while it was prepared: "
            "if it is only slow, raise --item-limit (WORKER_ITEM_LIMIT)",
        )
        self._fits = fits
        """may inputs of so many bytes be open at once?"""
        self._setup = Setup(task_name, dict(params), choice, open_item, memory_gb, THREADS | os.environ)
        self._waiting: deque[_Entry] = deque()
        self._children: list[_Child] = []
        self._finished: list[Prepared] = []
        self._one_at_a_time = threading.Lock()
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)
        _start_fork_server(registry.find(task_name).__module__)
        # multiprocessing joins every process at exit, and ours ignore its SIGTERM.
        self._at_exit = util.Finalize(self, _end, (self._children,), exitpriority=10)

    @property
    def under_way(self) -> int:
        """Submitted, and not yet returned by poll."""
        return len(self._waiting) + len(self._busy()) + len(self._finished)

    def submit(self, item: Item) -> None:
        """Never blocks; the caller bounds how many are under way."""
        entry = _Entry(item, ForkingPickler.dumps(item))
        with self._one_at_a_time:
            self._waiting.append(entry)
            self._feed()

    def poll(self, timeout: float) -> list[Prepared]:
        """What is finished, in that order; waits up to `timeout` for the first, or for a wake."""
        until = time.monotonic() + timeout
        while True:
            with self._one_at_a_time:
                woken = self._step(time.monotonic() if self._finished else until)
            if self._finished or woken or time.monotonic() >= until:
                finished = self._finished[:]
                self._finished.clear()
                return finished

    def wake(self) -> None:
        """From any thread: a waiting poll returns now, or else the next one does."""
        with suppress(OSError):  # it rings already, or the pool is closed
            self._bell.send(b"!")

    def drop(self) -> list[Item]:
        """Kills the children at once and gives back the items under way."""
        self.wake()
        with self._one_at_a_time:
            items = [done.item for done in self._finished]
            items += [busy.entry.item for busy in self._busy() if busy.entry]
            items += [entry.item for entry in self._waiting]
            _end(self._children)
            self._finished.clear()
            self._waiting.clear()
        return items

    def close(self) -> None:
        self.drop()
        self._at_exit.cancel()
        self._bell.close()
        self._ear.close()

    def _busy(self) -> list[_Child]:
        return [one for one in self._children if one.entry]

    def _step(self, until: float) -> bool:
        """Waits for one thing to happen, and sees to it; True after a wake."""
        soonest = min([until, *(self._deadline(busy) for busy in self._busy())])
        sources = [source for one in self._children for source in (one.pipe, one.process.sentinel)]
        ready = set(connection.wait([self._ear, *sources], max(0.0, soonest - time.monotonic())))
        self._forgive(time.monotonic() - soonest)
        for one in self._children[:]:
            if one.pipe in ready:
                self._hear(one)
            elif one.process.sentinel in ready:
                self._bury(one)
        for busy in self._busy():
            # What lies in the pipe already came in time: it was we who were away.
            if time.monotonic() >= self._deadline(busy) and not busy.pipe.poll():
                self._end(busy)
                self._finish(busy, self._hung)
        self._feed()
        if self._ear in ready:
            self._ear.recv(4096)
        return self._ear in ready

    def _forgive(self, late: float) -> None:
        """A worker that was stopped and woken makes every item look slow, and none is.

        Once an item: a worker that is away often must still find out which child hangs."""
        for busy in self._busy():
            if late > PAUSE_S and busy.entry and not busy.entry.forgiven:
                busy.entry.forgiven = True
                busy.begun = time.monotonic()

    def _deadline(self, busy: _Child) -> float:
        return max(busy.begun or busy.given + START_S, busy.stamp.value) + self._limit_s

    def _feed(self) -> None:
        """Gives waiting items to idle children, or to new ones while there is room."""
        while self._waiting and self._has_room():
            again = bool(self._waiting[0].deaths)
            idle = [one for one in self._children if not one.entry and one.process.is_alive()]
            if idle and not again:
                taker = idle[0]
            elif len(self._children) < self._size:
                taker = self._start()
            else:
                return
            taker.take(self._waiting.popleft())

    def _has_room(self) -> bool:
        """Alone, every input is tried: it may wait for other workers, and says why it does not fit."""
        sizes = [busy.entry.item.size for busy in self._busy() if busy.entry]
        return not sizes or self._fits(sum(sizes) + self._waiting[0].item.size)

    def _start(self) -> _Child:
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("forkserver")
        stamp = context.RawValue("d", 0.0)
        told = (theirs, self._setup, stamp)
        process = context.Process(target=child.run, args=told, name="prepare", daemon=True)
        try:
            _start_by_fork_server(process)
        finally:
            theirs.close()
        self._children.append(_Child(process, ours, stamp))
        return self._children[-1]

    def _hear(self, one: _Child) -> None:
        try:
            data = one.pipe.recv_bytes()
        except (EOFError, OSError):
            self._bury(one)
            return
        try:
            message = ForkingPickler.loads(data)
        except Exception as error:
            why = f"its sample cannot be read back: {type(error).__name__}: {error}"
            message = Reply(Failure("error", " ".join(why.split())), 0.0)
        if isinstance(message, Begun):
            one.begun = message.at
            return
        self._answer(one, message)

    def _answer(self, one: _Child, reply: Reply) -> None:
        if reply.traceback and one.entry:
            log.debug("%s: %s", one.entry.item.input, reply.traceback)
        if isinstance(reply.outcome, Failure) and reply.outcome.kind == child.MEMORY_KIND:
            self._end(one)  # what is left in its heap would starve the next item
            if one.served and self._try_again(one, "ran out of memory"):
                return  # the hunger may have been that of the items before
        self._finish(one, reply.outcome, reply.seconds)

    def _bury(self, dead: _Child) -> None:
        dead.process.join(1.0)
        self._end(dead)
        how = _death(dead.process.exitcode)
        if dead.entry and not self._try_again(dead, how):
            deaths = dead.entry.deaths
            times = f"{how}, twice" if set(deaths) == {how} else ", then ".join(deaths)
            self._finish(dead, Failure("crashed", f"the process that prepared it {times}"))

    def _try_again(self, dead: _Child, how: str) -> bool:
        """Once more, in a fresh child: the place of the dead one is free."""
        entry = dead.entry
        assert entry is not None
        entry.deaths.append(how)
        if len(entry.deaths) >= TRIES:
            return False
        dead.entry = None
        self._waiting.appendleft(entry)
        return True

    def _finish(self, one: _Child, outcome: object, seconds: float | None = None) -> None:
        assert one.entry is not None
        spent = time.monotonic() - (one.begun or one.given) if seconds is None else seconds
        self._finished.append(Prepared(one.entry.item, outcome, spent))
        one.entry = None
        one.served += 1

    def _end(self, one: _Child) -> None:
        self._children.remove(one)
        _end([one])


@dataclass(eq=False, slots=True)
class _Entry:
    """A submitted item."""

    item: Item
    pickled: memoryview
    deaths: list[str] = field(default_factory=list)
    forgiven: bool = False


@dataclass(eq=False, slots=True)
class _Child:
    """A process, the worker's end of its pipe, and the item it has."""

    process: BaseProcess
    pipe: connection.Connection[Any, Any]
    stamp: Stamp
    """of its last sign of life"""
    entry: _Entry | None = None
    given: float = 0.0
    begun: float | None = None
    served: int = 0

    def take(self, entry: _Entry) -> None:
        self.entry, self.given, self.begun = entry, time.monotonic(), None
        with suppress(OSError):  # it just died: the next poll sees that
            self.pipe.send_bytes(entry.pickled)


def _end(children: list[_Child]) -> None:
    """At once, with all that they started."""
    for one in children:
        assert one.process.pid
        with suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.kill()  # it may not have its own group yet
    for one in children:
        one.process.join(1.0)  # not for ever: a dead file server keeps even killed processes
        one.pipe.close()
    children.clear()


def _death(status: int | None) -> str:
    if status is None or status >= 0:
        return f"ended with status {status}"
    if -status == signal.SIGKILL:
        return "was killed, probably by the system for lack of memory"
    return f"died of signal {-status} ({(signal.strsignal(-status) or 'unknown').lower()})"


def _start_fork_server(module: str) -> None:
    """Children are forked from a small process that has no threads and no device, only the task's imports."""
    forkserver.set_forkserver_preload([child.__name__, module])
    resource_tracker.ensure_running()  # it would unblock the signals below
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, child.STOP_SIGNALS)
    try:
        with _few_threads():
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _start_by_fork_server(process: BaseProcess) -> None:
    """It may have died a moment ago, and multiprocessing does not see that before it is reaped."""
    until = time.monotonic() + RESTART_S
    while True:
        try:
            return process.start()
        except ConnectionRefusedError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.01)


@contextmanager
def _few_threads() -> Iterator[None]:
    """For a process started meanwhile: libraries read these names once, when they are loaded."""
    added = {name: one for name, one in THREADS.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
