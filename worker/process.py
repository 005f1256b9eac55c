"""The process that works: it opens the task's device and goes round the loop until there is nothing left.

A small parent (parent.py) had it started, beats for it, and tells it over the pipe when to stop.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker import signs
from worker.blame import in_one_line
from worker.cli import logs
from worker.clock import Clock
from worker.device import Device
from worker.errors import (
    MachineError,
    StoreAwayError,
    StoreFullError,
    UnfinishedError,
    WorkerError,
)
from worker.inputs import OpenInput, present_roots
from worker.items import Item, Json
from worker.link import Alive, End, Heard, Line, RemoteLife, Start, Stop
from worker.looking import Looking
from worker.loop import Loop
from worker.models import choice_of
from worker.passing import Passing
from worker.pool import Pool
from worker.purse import END_S, Purse, refuse_unpriced
from worker.queue.claims import Claims
from worker.queue.inbox import Inbox, Read, read_lines
from worker.queue.intake import finish_retries, roots
from worker.queue.recipe import Run, require
from worker.queue.store import Store, open_store
from worker.ranks import nodes
from worker.rolling import Rolling
from worker.scratch import hold
from worker.settings import Settings
from worker.tasks import params, registry
from worker.tasks.registry import AnyTask
from worker.tasks.task import JobTask, MapTask

if TYPE_CHECKING:
    from worker.jobs.loop import JobLoop
    from worker.ranks.coordinator import Coordinator
    from worker.ranks.follower import Follower
    from worker.viewing import Viewing

    AnyLoop = Loop | JobLoop | Follower
    Opened = Device | JobTask[Any] | Coordinator | Follower

AHEAD = 128
"""items that nobody prepares"""
SOCKET_FOLDER_MOST = 60
"""a socket's path has at most 108 characters, and the fork server's lies in the temporary folder"""

log = logging.getLogger(__name__)


def main(pipe: Connection[Any, Any]) -> None:
    """What a process of the nursery does. It ends with an End on the pipe, or it died."""
    start: Start = pipe.recv()
    settings, scratch = start.settings, start.scratch
    os.environ.update(settings.environment)  # before anything that looks for devices is imported
    logs.set_up(settings.log, debug=settings.debug, member=settings.member)
    if len(tempfile.gettempdir()) > SOCKET_FOLDER_MOST:
        tempfile.tempdir = "/tmp"
    line = Line(pipe)
    try:
        hold(scratch)  # for as long as we live, if that is longer than the parent
        _work(line, settings, start.worker, scratch)
        line.send(End(0))
    except WorkerError as error:
        if settings.debug:
            log.exception("the loop ended")
        line.send(End(error.exit_code, str(error)))
        logging.shutdown()
        os._exit(error.exit_code)  # Python would wait for every write that a store which is away still owes
    except Exception as error:
        log.error("the worker fails: %s", in_one_line(error), exc_info=settings.debug)
        logging.shutdown()
        os._exit(1)  # without an End: a death, and its items are suspects; a batch may still be there
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # the parent does that too, if it lives


def _work(line: Line, settings: Settings, worker: str, scratch: Path) -> None:
    store = open_store(settings.queue, patience=settings.patience_s)
    run = require(store)
    task_type = registry.find(run.recipe.task)
    task = task_type(
        params.validate(task_type, run.recipe.params), choice_of(store, run.recipe, scratch / "models")
    )
    places = present_roots(roots(store), settings.root) if task.takes == "files" else ()
    clock = Clock()
    life = RemoteLife(worker, settings.ttl, clock, line)
    most = None if settings.scratch_gb is None else int(settings.scratch_gb * 1e9)
    open_input = OpenInput(places, scratch, None if settings.root else settings.queue, most)

    purse = Purse(store, worker, budget=settings.budget, per_hour=settings.price_per_hour)
    task.purse = purse
    spent_up = False

    def alive(info: dict[str, Json]) -> None:
        nonlocal spent_up
        life.tell()
        device = settings.device_name or settings.device
        hw = {"hw": settings.hw} if settings.hw else {}
        line.send(Alive({**purse.told(info), **hw, "device": device, "host": os.uname().nodename}))
        if not spent_up and not purse.has(0.0):
            spent_up = True
            loop.finish(str(purse.over()), END_S)

    looking = Looking(
        Claims(store, life, clock, of_jobs=isinstance(task, JobTask)),
        _inbox(store, run, task_type, settings, clock),
        follow=settings.follow,
        idle_exit_s=settings.idle_exit_s,
    )
    pool: Pool | Passing | None = None
    loop: AnyLoop
    opened: Opened
    if isinstance(task, JobTask):
        opening = open_input if task.takes == "files" else nullcontext
        loop, opened = _of_jobs(task, store, looking, opening, alive, settings, run, worker, scratch)
    else:
        assert isinstance(task, MapTask)
        pool = _pool(task, open_input, settings)
        opened = device = (Rolling if task.at_once > 1 else Device)(task, settings.batch)
        signs.watch(device)
        loop = Loop(
            device,
            looking,
            pool,
            alive,
            worker=worker,
            ahead=AHEAD if isinstance(pool, Passing) else 2 * settings.children,
            flush_s=settings.flush_s,
        )
    stopped = threading.Event()
    threading.Thread(target=_listen, args=(line, life, loop, stopped), name="ear", daemon=True).start()
    finish_retries(store)
    if purse.has_limit:
        purse.look()
        if not purse.has(0.0):
            raise purse.never_enough()
        purse.watch(stopped)
    _open(task.name, opened.open, settings.device)
    refuse_unpriced(settings.budget, purse.is_priced)
    alive({"state": "ready"})
    viewing = _viewing(run, settings)
    try:
        loop.run()
        if spent_up:
            raise purse.over()
        if viewing:
            viewing.end(stopped)
    except (StoreAwayError, StoreFullError):
        loop.give_up()
        raise
    except WorkerError:
        loop.hand_back()
        raise
    finally:
        if viewing:
            viewing.kill()
        if pool:
            pool.close()
        opened.close()


def _of_jobs(
    task: JobTask[Any],
    store: Store,
    looking: Looking,
    opening: Callable[[Item], AbstractContextManager[Item]],
    alive: Callable[[dict[str, Json]], None],
    settings: Settings,
    run: Run,
    worker: str,
    scratch: Path,
) -> tuple[AnyLoop, Opened]:
    from worker.jobs.loop import JobLoop  # late: most workers do no jobs

    if settings.ranks == settings.node.count == 1:
        nodes.alone(os.environ)
        return JobLoop(task, store, looking, opening, alive, worker=worker, scratch=scratch), task
    from worker.ranks.coordinator import Coordinator, Ranks
    from worker.ranks.follower import Follower

    ranks = Ranks(
        settings.ranks,
        settings.node,
        settings.device,
        run.fingerprint,
        settings.patience_s,
        settings.item_limit_s or task.item_limit_s,
        settings.log,
        settings.debug,
    )
    if settings.node.follows:
        follower = Follower(store, ranks, task, opening, alive, scratch=scratch)
        return follower, follower
    several = Coordinator(task, ranks)
    loop = JobLoop(task, store, looking, opening, alive, worker=worker, scratch=scratch, run=several.run)
    return loop, several


def _viewing(run: Run, settings: Settings) -> Viewing | None:
    if settings.out is None:
        return None
    from worker.viewing import Viewing

    return Viewing(run, settings)


def _open(task: str, open_it: Callable[[str], None], device: str) -> None:
    """A model that does not load here will not load at the eighth try either."""
    try:
        open_it(device)
    except WorkerError:
        raise
    except Exception as error:
        log.debug("open failed", exc_info=True)
        raise MachineError(f"task {task} cannot open {device}: {in_one_line(error)}") from error


def _pool(task: MapTask[Any, Any], open_input: OpenInput, settings: Settings) -> Pool | Passing:
    if type(task).prepare is MapTask.prepare:
        return Passing()
    return Pool(
        task.name,
        task.params.model_dump(mode="json"),
        settings.children,
        task.choice,
        limit_s=settings.item_limit_s or task.item_limit_s,
        memory_gb=settings.item_memory_gb or task.item_memory_gb,
        open_item=open_input if task.takes == "files" else nullcontext,
        fits=open_input.fits,
    )


def _inbox(store: Store, run: Run, task_type: type[AnyTask], settings: Settings, clock: Clock) -> Inbox:
    def read(content: bytes) -> Read:
        from worker.queue import lines  # late: most queues have no inbox
        from worker.sources import Resolver

        # whoever enqueued meanwhile may have brought another root
        places = present_roots(roots(store), settings.root) if task_type.takes == "files" else ()
        resolve = Resolver(task_type, run.fingerprint, places)
        return read_lines(lines.parse(content, task_type, run.recipe.params), resolve)

    return Inbox(store, run.sizes, settings.ttl, clock, read)


def _listen(line: Line, life: RemoteLife, loop: AnyLoop, stopped: threading.Event) -> None:
    """The parent's word. Without a parent nobody beats for us: what is finished is written, then we go."""
    stop = Stop("the parent process died", 20.0)
    while True:
        try:
            message = line.pipe.recv()
        except (EOFError, OSError):
            break
        if isinstance(message, Heard):
            life.hear(message)
        if isinstance(message, Stop):
            stop = message
            break
    stopped.set()
    loop.stop(stop.reason, stop.time_left)
    life.close()
    if loop.handed_back.wait(stop.time_left * loop.share_of_time):
        return
    log.warning("%s: no time left for what is in hand, it is dropped", stop.reason)
    try:
        loop.hand_back()
        loop.handed_back.wait(stop.time_left * (1 - loop.share_of_time))
        line.send(End(UnfinishedError.exit_code, stop.reason))
    finally:
        os._exit(UnfinishedError.exit_code)
