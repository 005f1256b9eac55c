"""What runs in a child process of the pool: one item after another is prepared, whatever it may hold."""

from __future__ import annotations

import fcntl
import inspect
import multiprocessing
import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from worker import signs
from worker.blame import failure_of, in_one_line
from worker.engines.choice import Choice
from worker.errors import ItemError
from worker.items import Failure, Item, Json
from worker.signs import Stamp
from worker.tasks import params, registry
from worker.tasks.task import MapTask

OpenItem = Callable[[Item], AbstractContextManager[Item]]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
MEMORY_KIND = "memory"


@dataclass(frozen=True, slots=True)
class Setup:
    """What every child of a pool is told at its start."""

    task_name: str
    params: Mapping[str, Json]
    choice: Choice | None
    open_item: OpenItem
    memory_gb: float
    environment: Mapping[str, str]
    """the worker's own: the fork server, which a child comes from, may be older than a change to it"""


@dataclass(frozen=True, slots=True)
class Begun:
    """A child's word that an item is in hand: only from here on does its time count."""

    at: float
    """time.monotonic, which all processes of a machine share"""


@dataclass(frozen=True, slots=True)
class Reply:
    outcome: object | Failure
    seconds: float
    traceback: str = ""


def run(pipe: Connection[Any, Any], setup: Setup, stamp: Stamp) -> None:
    name_process("worker-prepare")
    die_with_the_worker()
    _leave_stopping_to_the_worker()
    _limit_memory(setup.memory_gb)
    os.environ.update(setup.environment)
    signs.watch(stamp)
    preparer = _Preparer(setup)
    with suppress(EOFError, OSError):  # the pool let go of its end
        while True:
            item: Item = pipe.recv()
            pipe.send(Begun(time.monotonic()))
            pipe.send_bytes(preparer.reply(item))


def name_process(name: str) -> None:
    """For ps and top."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name)


class _Preparer:
    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        gb = f"{setup.memory_gb:g} GB"
        self._hungry = Failure(MEMORY_KIND, f"needs more than {gb} to prepare; raise WORKER_ITEM_MEMORY")

    @cached_property
    def task(self) -> MapTask[Any, Any]:
        task_type = registry.find(self._setup.task_name)
        task = task_type(params.validate(task_type, self._setup.params), self._setup.choice)
        assert isinstance(task, MapTask)
        return task

    def reply(self, item: Item) -> memoryview:
        started = time.monotonic()
        failure, trace = self._hungry, ""
        try:
            whole = replace(item, beside=self.task.beside(item.input))
            with self._setup.open_item(whole) as opened:
                return _pack(Reply(self.task.prepare(opened), time.monotonic() - started))
        except MemoryError:
            pass  # told below: until the end of this block the exception keeps what filled the memory
        except Exception as error:
            failure = failure_of(error, self._file())
            trace = "" if isinstance(error, ItemError) else traceback.format_exc()
        return _pack(Reply(failure, time.monotonic() - started, trace))

    def _file(self) -> str:
        with suppress(Exception):  # the task itself may be what failed
            return inspect.getfile(type(self.task))
        return ""


def _pack(reply: Reply) -> memoryview:
    try:
        return ForkingPickler.dumps(reply)
    except MemoryError:
        raise
    except Exception as error:
        raise ItemError("error", f"its sample cannot be sent to the worker: {in_one_line(error)}") from error


def die_with_the_worker() -> None:
    """Ends this process, and what it started, when the worker ends: kill -9 leaves nothing behind.

    PR_SET_PDEATHSIG would watch the fork server, which lives as long as any child does. So the kernel
    is asked to kill our process group when the worker's end of this pipe closes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    os.setsid()
    die_with(parent.sentinel)


def die_with(other_end: int) -> None:
    """Of a pipe or socket that nobody writes to: once it closes, this process group is killed."""
    fcntl.fcntl(other_end, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(other_end, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(other_end, fcntl.F_SETFL, fcntl.fcntl(other_end, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([other_end], [], [], 0)[0]:  # it ended before we asked
        os._exit(1)


def _leave_stopping_to_the_worker() -> None:
    for number in STOP_SIGNALS:  # a Ctrl-C or a scheduler's warning may reach every process
        signal.signal(number, signal.SIG_IGN)


def _limit_memory(gb: float) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    status = Path("/proc/self/status").read_text()
    taken = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData"))
    limit = taken + int(gb * 1e9)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with suppress(OSError):  # where the machine itself runs short, the kernel shall take us first
        Path("/proc/self/oom_score_adj").write_text("500")
