"""One of several processes that do a job together, as torchrun starts it: python -m worker.ranks.rank FOLDER

It runs the task as a worker with one device would. Of its workspace rank 0 has the true one, at the other end
of a line; the others only do their share of the work."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import socket
import sys
from base64 import b64encode
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from worker.child import STOP_SIGNALS, die_with, name_process
from worker.cli import logs
from worker.items import Answer, Failure, Item
from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Workspace
from worker.ranks import backend
from worker.ranks.channel import Channel
from worker.ranks.endings import NetworkError, raised
from worker.ranks.group import LIFE, LINE
from worker.ranks.remote import Bystander, Remote
from worker.ranks.words import Answered, Begin, Hello, Loaded, Over, Raised, Together, Word
from worker.tasks import params, registry
from worker.tasks.task import JobTask

log = logging.getLogger(__name__)


def main(folder: Path) -> int:
    rank = int(os.environ["RANK"])
    name_process(f"worker-rank-{rank}")
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    life = _connect(folder / LIFE)
    die_with(life.fileno())
    channel = _line(folder / LINE)
    channel.send(Hello(rank, os.getpid()))
    begin = channel.receive()
    if not isinstance(begin, Begin):
        return 1
    logs.set_up(begin.log, debug=begin.debug)
    if rank:  # what rank 0 says is enough
        for name in ("", "worker"):
            logging.getLogger(name).setLevel(logging.ERROR)
    last = _work(begin, rank, channel)
    channel.send(last)
    _part()
    return int(isinstance(last, Raised))


def _work(begin: Begin, rank: int, channel: Channel) -> Word:
    task = _task(begin)
    try:
        return _run(task, begin, rank, channel)
    except Exception as error:
        log.debug("rank %d failed", rank, exc_info=True)
        return raised(rank, error, inspect.getfile(type(task)))


def _run(task: JobTask[Any], begin: Begin, rank: int, channel: Channel) -> Word:
    local = int(os.environ["LOCAL_RANK"])
    device = begin.device if begin.device == "cpu" else f"{begin.device}:{local}"
    stop = StopFlag()
    workspace = Bystander(begin) if rank else Remote(begin, channel, stop)
    import torch.distributed  # noqa: F401

    channel.send(Loaded())
    _meet(begin.backend, device, begin.limit_s)
    channel.send(Together())
    task.open(device)
    item = Item(**{**begin.item, "file": Path(begin.file) if begin.file else None})
    outcome = task.run(item, cast(Workspace, workspace), stop)
    if rank:
        return Over()
    if isinstance(outcome, Failure):
        return Answered(None, failure=(outcome.kind, outcome.message))
    if not isinstance(outcome, Answer):
        raise TypeError(f"run() gave a {type(outcome).__name__}, no Answer and no Failure")
    files = {name: b64encode(data).decode() for name, data in outcome.files.items()}
    return Answered(dict(outcome.keys), files)


def _task(begin: Begin) -> JobTask[Any]:
    task_type = registry.find(begin.task)
    task = task_type(params.validate(task_type, begin.params))
    assert isinstance(task, JobTask)
    return task


def _meet(way: str, device: str, limit_s: float) -> None:
    """With a first sum over all ranks: NCCL says only then whether it reaches everybody."""
    import torch
    from torch import distributed

    try:
        if device.startswith("cuda"):
            torch.cuda.set_device(device)
        # rank 0 may upload for long while the others wait for its next step
        distributed.init_process_group(backend.of_torch(way), timeout=timedelta(seconds=limit_s))
        one = torch.ones(1, device=device)
        distributed.all_reduce(one)
        if int(one.item()) != distributed.get_world_size():
            raise RuntimeError(f"the sum over all ranks is {one.item()}")
    except Exception as error:
        raise NetworkError(" ".join(f"{type(error).__name__}: {error}".split())[:300]) from error


def _part() -> None:
    """Else torchrun may wait for ever."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _connect(path: Path) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.connect(str(path))
    return one


def _line(path: Path) -> Channel:
    """What is told to people goes where the worker's own words go: torchrun's own are for us alone."""
    line = _connect(path)
    _, (stderr, *_), _, _ = socket.recv_fds(line, 1, 1)
    for stream in (1, 2):
        os.dup2(stderr, stream)
    os.close(stderr)
    return Channel(line)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
