"""Where working processes come from: a small process, forked before this one had threads.

A worker's modules are imported once, so a process is there in milliseconds, also one that replaces another. A
process with threads must not fork: so the nursery is forked first of all, before a store or a task's code is
opened. It has no threads, and does nothing but fork and say how what it forked has ended.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

from worker.child import STOP_SIGNALS
from worker.errors import MachineError, UnfinishedError

FORK = multiprocessing.get_context("fork")
NUMBER = struct.Struct("!i")
UNKNOWN_STATUS = 255
"""of a process whose nursery died, and that is killed for it: nobody would hear how it ends"""

Work = Callable[[Any], object]


class Working:
    """A process that works, as its parent sees it."""

    def __init__(self, pid: int, sentinel: int) -> None:
        self.pid = pid
        self.sentinel = sentinel
        """readable once it has ended"""

    def status(self, patience: float | None = None) -> int | None:
        """Its exit status, negative for a signal; None: it has not ended yet."""
        if not wait([self.sentinel], patience):
            return None
        said = os.read(self.sentinel, NUMBER.size)
        if said:
            return int(NUMBER.unpack(said)[0])
        self.kill()
        return UNKNOWN_STATUS

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        os.close(self.sentinel)


class Nursery:
    def __init__(self, work: Work) -> None:
        """`work` is what its processes do, with the connection that they are given. Before threads!"""
        self._lock = threading.Lock()
        self._asking, asked = socket.socketpair()
        self._process = FORK.Process(target=_serve, args=(asked, self._asking, work), name="worker-nursery")
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            self._process.start()  # it hears them once it ignores them
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        asked.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._asking.close()
        self._process.join()

    def start(self, pipe: Connection[Any, Any]) -> Working:
        """Another process, with this end of a pipe, which is closed here. Any thread may ask."""
        sentinel, status = os.pipe()
        try:
            with self._lock:
                socket.send_fds(self._asking, [b"!"], [pipe.fileno(), status])
                said = self._asking.recv(NUMBER.size)
        except OSError:
            said = b""
        finally:
            os.close(status)
            pipe.close()
        pid = NUMBER.unpack(said)[0] if said else 0
        if pid > 0:
            return Working(pid, sentinel)
        os.close(sentinel)
        if not pid:
            raise UnfinishedError("the process that starts the others was killed")
        raise MachineError(f"no process can be started: {os.strerror(-pid)}")


def name_process(name: str) -> None:
    """For ps and top."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def _serve(asked: socket.socket, asking: socket.socket, work: Work) -> None:
    asking.close()
    name_process("worker-nursery")
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # a Ctrl-C reaches the whole group; the parent decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    died, bell = socket.socketpair()
    bell.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(bell.fileno(), warn_on_full_buffer=False)
    alive: dict[BaseProcess, int] = {}
    """and where each one's status goes"""

    def begin(pipe: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for one in (asked, died, bell):
            one.close()
        for other in [*alive.values(), status]:
            os.close(other)
        name_process("worker-loop")
        work(Connection(pipe))

    while True:
        ready = wait([asked, died])
        if died in ready:
            died.recv(4096)
            for one in [one for one in alive if not one.is_alive()]:
                _write(alive.pop(one), one.exitcode or 0)
        if asked in ready:
            word, handles, _, _ = socket.recv_fds(asked, 1, 2)
            if not word:
                os._exit(0)  # the parent ended; those that work find out by themselves
            pipe, status = handles
            one = FORK.Process(target=begin, args=(pipe,), name="worker-loop")
            try:
                one.start()
                alive[one] = status
                answer = one.pid or 0
            except OSError as error:
                os.close(status)
                answer = -(error.errno or 0)
            os.close(pipe)
            asked.send(NUMBER.pack(answer))


def _write(status: int, number: int) -> None:
    with suppress(OSError):  # nobody asks any more
        os.write(status, NUMBER.pack(number))
    os.close(status)
