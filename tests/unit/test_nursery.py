"""Where working processes come from: forked before there are threads, watched, and gone with their parent."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from tests.workers import PATIENCE_S, eventually
from worker import nursery as module
from worker.errors import UnfinishedError
from worker.nursery import Nursery, Working


def obey(pipe: Any) -> None:
    """Ends as it is told: a number is its exit status."""
    pipe.send((os.getpid(), os.getppid(), threading.active_count()))
    try:
        word = pipe.recv()
    except EOFError:
        return
    raise SystemExit(word)


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    with Nursery(obey) as opened:
        yield opened


def begin(nursery: Nursery) -> tuple[Working, Any, int]:
    """→ the process, our end of its pipe, and its nursery's id"""
    ours, theirs = Pipe()
    working = nursery.start(theirs)
    pid, parent, threads = ours.recv()
    assert (pid, threads) == (working.pid, 1)
    return working, ours, parent


def is_there(pid: int) -> bool:
    """Zombies are not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("end", [0, 3, signal.SIGKILL])
def test_how_a_process_ended_is_told(nursery: Nursery, end: int) -> None:
    working, pipe, _ = begin(nursery)
    assert not working.ended(0)
    if end == signal.SIGKILL:
        working.kill()
    else:
        pipe.send(end)
    assert working.ended(PATIENCE_S)
    assert working.status() == (-9 if end == signal.SIGKILL else end)


def test_each_of_several_threads_gets_a_process_of_its_own(nursery: Nursery) -> None:
    begun: list[tuple[Working, Any, int]] = []
    threads = [threading.Thread(target=lambda: begun.append(begin(nursery))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len({working.pid for working, _, _ in begun}) == 4
    for number, (_, pipe, _) in enumerate(begun):
        pipe.send(number)
    assert [working.ended(PATIENCE_S) and working.status() for working, _, _ in begun] == [0, 1, 2, 3]


def test_a_process_hears_that_its_parent_let_go_of_it_while_others_live(nursery: Nursery) -> None:
    one, pipe, _ = begin(nursery)
    other, _pipe, _ = begin(nursery)
    pipe.close()
    assert one.ended(PATIENCE_S)
    assert one.status() == 0
    assert not other.ended(0)
    other.kill()


def test_a_stop_signal_to_all_of_the_group_ends_nothing(nursery: Nursery) -> None:
    working, pipe, parent = begin(nursery)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(working.pid, number)
        os.kill(parent, number)
    pipe.send(0)
    assert working.ended(PATIENCE_S)
    assert working.status() == 0
    begin(nursery)[0].kill()


def test_a_process_outlives_its_nursery_and_nothing_more_starts() -> None:
    nursery = Nursery(obey)
    working, pipe, parent = begin(nursery)
    os.kill(parent, signal.SIGKILL)
    assert not working.ended(0.2)
    with pytest.raises(UnfinishedError, match="was killed"):
        nursery.start(Pipe()[1])
    pipe.send(0)
    assert working.ended(PATIENCE_S)
    assert working.status() is None, "nobody is there who could tell"
    with nursery:
        pass


def leave_one_behind(pipe: Any) -> None:
    """Dies, and what it started lives on."""
    if not (child := os.fork()):
        signal.alarm(60)  # also of a test that fails
        signal.pause()
    pipe.send(child)
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_dead_process_left_behind_is_buried() -> None:
    ours, theirs = Pipe()
    with Nursery(leave_one_behind) as nursery:
        nursery.start(theirs)
        left = ours.recv()
        status = Path(f"/proc/{left}/status")
        eventually(lambda: f"PPid:\t{nursery._process.pid}\n" in status.read_text())
        os.kill(left, signal.SIGKILL)
        eventually(lambda: not status.exists())


def test_where_the_kernel_has_no_handles_a_process_ends_with_its_nursery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(_pid: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", absent)
    with Nursery(obey) as nursery:
        one, pipe, _ = begin(nursery)
        pipe.send(3)
        assert one.ended(PATIENCE_S)
        assert one.status() == 3
        other, _pipe, parent = begin(nursery)
        os.kill(parent, signal.SIGKILL)
        assert other.ended(PATIENCE_S)
        assert other.status() is None
        eventually(lambda: not is_there(other.pid))


def test_a_nursery_that_is_stopped_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with Nursery(obey) as nursery:
        working, _pipe, parent = begin(nursery)
        os.kill(parent, signal.SIGSTOP)
        monkeypatch.setattr(module, "ANSWER_S", 0.2)
        monkeypatch.setattr(module, "STATUS_S", 0.2)
        working.kill()
        assert working.ended(PATIENCE_S)
        assert working.status() is None
        with pytest.raises(UnfinishedError):
            nursery.start(Pipe()[1])
    eventually(lambda: not is_there(parent))
    monkeypatch.undo()
    with Nursery(obey) as nursery:
        os.kill(begin(nursery)[2], signal.SIGSTOP)


def test_the_nursery_ends_with_its_parent() -> None:
    ours, theirs = Pipe()
    told, tell = os.pipe()
    parent = os.fork()
    if not parent:
        nursery = Nursery(obey)
        nursery.start(theirs)
        os.write(tell, str(nursery._process.pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    theirs.close()
    os.waitpid(parent, 0)
    nursery_id = int(os.read(told, 20))
    pid, _, _ = ours.recv()
    eventually(lambda: not is_there(nursery_id))
    assert is_there(pid)
    ours.send(0)
    eventually(lambda: not is_there(pid))
