"""The process that draws the views of a run: a first look at a long queue takes many seconds of Python, which
the process that feeds the device does not have."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from worker.blame import in_one_line
from worker.child import die_with_the_worker, name_process
from worker.cli import logs
from worker.errors import WorkerError
from worker.queue.recipe import Run
from worker.queue.store import open_store
from worker.report.views import Views
from worker.settings import Settings

NICE = 10
LAST_LOOK_S = 30.0
MOMENT_S = 3.0

log = logging.getLogger(__name__)


class Viewing:
    """From now on until the end, with a last look there; or until the worker dies."""

    def __init__(self, run: Run, settings: Settings) -> None:
        self._run, self._settings = run, settings
        self._begin()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._going_on, theirs = context.Pipe()
        arguments = theirs, self._run, self._settings
        self._process = context.Process(target=_draw, args=arguments, name="worker-views")
        self._process.start()
        theirs.close()

    def end(self, stopped: threading.Event) -> None:
        """After the last look. Whoever is told to stop waits for it but a moment: others may draw it too."""
        if not self._process.is_alive():  # killed by somebody, or by its hunger
            self._begin()
        self._going_on.close()
        ends = time.monotonic() + LAST_LOOK_S
        while self._process.is_alive() and not stopped.is_set() and time.monotonic() < ends:
            self._process.join(0.2)
        self._process.join(MOMENT_S)
        if self._process.exitcode != 0:
            log.warning("the views of the run are not up to date: their last look did not come to an end")

    def kill(self) -> None:
        """Its last look may hang: not even a dead process ends while a file server does not answer."""
        self._process.kill()
        self._process.join(MOMENT_S)


def _draw(going_on: Connection[Any, Any], run: Run, settings: Settings) -> None:
    name_process("worker-views")
    die_with_the_worker()
    os.nice(NICE)
    logs.set_up(settings.log, debug=settings.debug, member=settings.member)
    assert settings.out
    views = Views(open_store(settings.queue, patience=settings.patience_s), run, settings.out)
    over = False
    while not over:
        over = going_on.poll(settings.views_s)
        try:
            views.refresh()
        except Exception as error:
            why = str(error) if isinstance(error, WorkerError | OSError) else in_one_line(error)
            log.warning("the views of the run are not up to date: %s", why)
