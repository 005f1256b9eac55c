"""Where working processes come from: a small process, forked before this one had threads.

A worker's modules are imported once, so a process is there in milliseconds, also one that replaces another. A
process with threads must not fork: so the nursery is forked first of all, before a store or a task's code is
opened. It has no threads, and does nothing but fork and say how what it forked has ended.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Self

from worker.child import STOP_SIGNALS, name_process
from worker.errors import MachineError, UnfinishedError

FORK = multiprocessing.get_context("fork")
PR_SET_CHILD_SUBREAPER = 36
NUMBER = struct.Struct("!i")
GONE = "the process that starts the others was killed"
ANSWER_S = 10.0
"""a nursery that takes longer is stopped or starved: nothing will come of it"""
STATUS_S = 2.0
"""how long its word of a status may come behind the end itself"""

Work = Callable[[Any], object]


class Working:
    """A process that works, as its parent sees it."""

    def __init__(self, pid: int, told: int, handle: int | None) -> None:
        """`told`: where the nursery says how it ended. `handle`: of the process itself, where the kernel has
        such (Linux 5.3): then it is known to live or not, whatever becomes of the nursery."""
        self.pid = pid
        self._told = told
        self._handle = handle
        self.sentinel = told if handle is None else handle
        """readable once it has ended"""

    def ended(self, patience: float | None = None) -> bool:
        return bool(wait([self.sentinel], patience))

    def status(self) -> int | None:
        """Of a process that has ended: its exit status, negative for a signal. None: nobody is there any more
        who could tell."""
        said = os.read(self._told, NUMBER.size) if wait([self._told], STATUS_S) else b""
        if said:
            return int(NUMBER.unpack(said)[0])
        self.kill()  # without a handle it may live yet
        return None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            if self._handle is None:
                os.kill(self.pid, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def close(self) -> None:
        for one in {self._told, self.sentinel}:
            os.close(one)


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
        self._process.join(1.0)
        self._process.kill()  # it may be stopped
        self._process.join(1.0)

    def start(self, pipe: Connection[Any, Any]) -> Working:
        """Another process, with this end of a pipe, which is closed here. Any thread may ask."""
        told, status = os.pipe()
        handles: list[int] = []
        try:
            with self._lock:
                self._asking.settimeout(ANSWER_S)
                socket.send_fds(self._asking, [b"!"], [pipe.fileno(), status])
                said, handles, _, _ = socket.recv_fds(self._asking, NUMBER.size, 1)
        except OSError:
            said = b""
            self._process.kill()  # an answer that comes now would be taken for that to the next question
        finally:
            os.close(status)
            pipe.close()
        pid = NUMBER.unpack(said)[0] if said else 0
        if pid > 0:
            return Working(pid, told, handles[0] if handles else None)
        os.close(told)
        if not pid:
            raise UnfinishedError(GONE)
        raise MachineError(f"no process can be started: {os.strerror(-pid)}")


def _serve(asked: socket.socket, asking: socket.socket, work: Work) -> None:
    asking.close()
    name_process("worker-nursery")
    _adopt()
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
            _bury_others({one.pid for one in alive})
        if asked in ready:
            try:
                word, handles, _, _ = socket.recv_fds(asked, 1, 2)
            except OSError:
                word = b""
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
            with suppress(OSError), _handle(answer) as handles:  # it ended meanwhile: the next word is empty
                socket.send_fds(asked, [NUMBER.pack(answer)], handles)


def _adopt() -> None:
    """What a process that died leaves behind is ours: a container has nobody else to bury it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def _bury_others(ours: set[int | None]) -> None:
    with suppress(ChildProcessError):
        while (dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if dead.si_pid in ours:
                return  # its own bell has rung, or will
            os.waitpid(dead.si_pid, 0)


@contextmanager
def _handle(pid: int) -> Iterator[list[int]]:
    """Of a process that is ours to wait for: its number cannot be another's yet."""
    handles = []
    with suppress(OSError):
        handles = [os.pidfd_open(pid)] if pid > 0 else []
    try:
        yield handles
    finally:
        for one in handles:
            os.close(one)


def _write(status: int, number: int) -> None:
    with suppress(OSError):  # nobody asks any more
        os.write(status, NUMBER.pack(number))
    os.close(status)
