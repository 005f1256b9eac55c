"""The small process that owns the signals, beats, and watches the one that works.

It loads no model and touches no device: a long batch never starves a beat, and when the working process
dies, however it dies, somebody is left who says so in the queue.
"""

from __future__ import annotations

import logging
import multiprocessing
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

from worker.blame import in_one_line
from worker.clock import Clock
from worker.errors import MachineError, StoreAwayError, StoreFullError, UnfinishedError, WorkerError
from worker.items import Json
from worker.link import Alive, BeatNow, End, Heard, Line, Say, Start, Stop
from worker.nursery import GONE, Nursery, Working
from worker.queue import layout
from worker.queue.beat import ENDED, Heart
from worker.queue.holding import release
from worker.queue.store import FULL_PATIENCE, Store, open_store
from worker.queue.text import decode
from worker.scratch import FOLDER, own_folder
from worker.settings import Settings
from worker.standing import Standing
from worker.stop import Ear, StopSignal

DEATHS_IN_A_ROW = 8
"""without an answer between them; a poisonous item costs four before it is failed"""
PAUSE_MOST_S = 30.0
OPEN_LIMIT_S = 3600.0
"""loading a model from a slow disk may take long"""
SILENCE_MARGIN_S = 60.0
FAREWELL_S = 1.0
"""for the beat that is under way, so that the last one is the last"""
END_MOST_S = 5.0
"""for a process that has said its last word to be gone; the working one shall be first with its own"""
RELEASE_PATIENCE_S = 5.0
"""a shard that is not released is free after the TTL all the same"""
STOP_LEAST_S = 2.0
"""a machine that is taken "now" still has a moment, and finished results need one"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a working process ended."""

    code: int
    text: str = ""
    died: bool = False
    progress: int = 0
    """items answered and checkpoints made: what did not die in vain"""


class Parent:
    def __init__(
        self,
        nursery: Nursery,
        item_limit_s: float,
        settings: Settings,
        stop: Ear,
        show: Callable[[Alive], None],
        name: str = "the worker",
    ):
        self._nursery = nursery
        self._settings = settings
        self._stop = stop
        self._limit = item_limit_s + SILENCE_MARGIN_S
        self._show = show
        self._name = name
        past = Standing(settings.device_name or settings.device)
        # one value, for another thread reads it
        self._told: tuple[Standing, Incarnation | None] = past, None

    def run(self) -> Ending:
        """Keep one process working until it ends in good order, is stopped, or dies too often."""
        deaths = 0
        while True:
            ending = self._live()
            if not ending.died or self._stop.current:
                return ending
            deaths = 1 if ending.progress else deaths + 1
            if deaths >= DEATHS_IN_A_ROW:
                return Ending(3, f"{self._name} died {deaths} times in a row; the last time: {ending.text}")
            pause = min(2.0 ** (deaths - 1) * 0.5, PAUSE_MOST_S)
            log.warning("%s died (%s); another one starts in %g s", self._name, ending.text, pause)
            if wait([self._stop.fileno()], pause):
                return Ending(UnfinishedError.exit_code, "stopped")

    def _live(self) -> Ending:
        working = Incarnation(self._nursery, self._limit, self._settings, self._stop, self._show, self._name)
        past = self._told[0]
        self._told = past, working
        ending = working.run()
        self._told = past.after(working.info, died=ending.died), None
        return ending

    @property
    def standing(self) -> Standing:
        """For people; any thread may ask."""
        past, working = self._told
        return past.with_(working.worker, working.info, working.silence_s) if working else past


class Incarnation:
    """One incarnation of the working process, under a name of its own."""

    def __init__(
        self,
        nursery: Nursery,
        limit: float,
        settings: Settings,
        stop: Ear,
        show: Callable[[Alive], None],
        name: str = "the worker",
    ) -> None:
        self._nursery = nursery
        self._settings = settings
        self._name = name
        self._stop = stop
        self._limit = limit
        self._show = show
        self._store: Store = open_store(settings.queue, patience=RELEASE_PATIENCE_S)
        self._clock = Clock()
        self._heart = Heart(self._store, uuid.uuid4().hex, settings.ttl, self._clock)
        self._asked = 0
        self._acknowledged = 0
        self._over = False
        self._bell = threading.Event()
        self._progress = 0
        self._ready = False
        self._end: End | None = None
        self._refused: WorkerError | None = None
        """the store does not let us in: no beat of ours will be heard"""

    @property
    def worker(self) -> str:
        return self._heart.worker

    @property
    def info(self) -> Mapping[str, Json]:
        """What the loop last said of itself."""
        return self._heart.info

    @property
    def silence_s(self) -> float:
        """How long ago the last beat that the store acknowledged was sent."""
        return self._clock.now() - self._heart.acknowledged

    def run(self) -> Ending:
        # ours to remove: the working process may die
        with own_folder(Path(tempfile.gettempdir()), FOLDER) as scratch:
            return self._run(scratch)

    def _run(self, scratch: Path) -> Ending:
        ours, theirs = multiprocessing.Pipe()
        ours.send(Start(self._settings, self._heart.worker, scratch))
        working = self._nursery.start(theirs)
        try:
            line = Line(ours)
            beating = threading.Thread(target=self._beat, args=(line,), name="heart", daemon=True)
            beating.start()
            ending = self._watch(working, line)
        except BaseException as error:  # nobody would watch it, or beat for it
            self._release(self._kill(working, Ending(MachineError.exit_code, in_one_line(error))))
            raise
        finally:
            self._over = True
            self._bell.set()
            working.close()
        beating.join(FAREWELL_S)
        if ending.died or ending.code == UnfinishedError.exit_code:
            self._release(ending)
        if not beating.is_alive():  # else the store is away, and it does not matter
            self._heart.info = {**self._heart.info, "state": ENDED, "item": ""}
            self._heart.beat()
        return ending

    # beating

    def _beat(self, line: Line) -> None:
        """In its own thread: a store that does not answer must not deafen the parent."""
        while not self._over:
            self._bell.clear()
            asked = self._asked
            try:
                heard = self._heart.beat()
            except WorkerError as error:
                self._refused = error
                return
            except Exception as error:  # a parent without a heart must not go on
                self._refused = MachineError(f"no beat can be made: {in_one_line(error)}")
                return
            if heard:
                self._acknowledged = asked
                line.offer(Heard(self._heart.acknowledged, self._heart.gaps, asked))
            elif asked > self._acknowledged:
                self._bell.wait(1.0)  # somebody waits: soon again, though not by a retry
                continue
            if self._asked == asked:
                self._bell.wait(self._heart.pause)

    # watching

    def _watch(self, working: Working, line: Line) -> Ending:
        heard = time.monotonic()
        stopping: StopSignal | None = None
        ends = heard
        told = True
        while True:
            ready = wait([line.pipe, working.sentinel, self._stop.fileno()], 1.0)
            now = time.monotonic()
            if line.pipe in ready and self._hear(line):
                heard = now
            elif working.sentinel in ready:
                return self._ending(working.status())
            if self._stop.fileno() in ready:
                self._stop.drain()
            stop = self._stop.current
            if stop and stop is not stopping:
                stopping = stop
                ends = now if stop.urgent else max(stop.ends, now + STOP_LEAST_S)
                told = False
            if stopping and not told:
                told = line.offer(Stop(stopping.reason, ends - now))
            if stopping and now >= ends:
                return self._kill(working, Ending(UnfinishedError.exit_code, stopping.reason))
            if self._end and now - heard > END_MOST_S:
                return self._kill(working, self._ending(0))
            if trouble := self._refused or self._lasting_trouble():
                return self._kill(working, Ending(trouble.exit_code, str(trouble)))
            if now - heard > (self._limit if self._ready else OPEN_LIMIT_S):
                text = f"it hung: nothing was heard of it for {now - heard:.0f} s"
                return self._kill(working, Ending(0, text, died=True, progress=self._progress))

    def _lasting_trouble(self) -> WorkerError | None:
        """Why beats have not been acknowledged for longer than we are patient."""
        trouble = self._heart.trouble
        patience = self._settings.patience_s
        if isinstance(trouble, StoreFullError):
            patience = min(patience, FULL_PATIENCE)
        return trouble if self._heart.trouble_s > patience + END_MOST_S else None

    def _hear(self, line: Line) -> bool:
        """True: the loop goes round."""
        try:
            message = line.pipe.recv()
        except (EOFError, OSError):
            time.sleep(0.01)  # its end closed; the sentinel follows
            return False
        if isinstance(message, Say):
            self._heart.claims, self._heart.hand = message.claims, message.hand
        elif isinstance(message, BeatNow):
            self._asked = message.token
            self._bell.set()
        elif isinstance(message, Alive):
            self._ready = True
            self._heart.info = message.info
            self._progress = sum(int(message.info.get(key, 0)) for key in ("answered", "checkpoints"))
            self._show(message)
        elif isinstance(message, End):
            self._end = message
        return True

    def _ending(self, status: int | None) -> Ending:
        if self._end:
            return Ending(self._end.code, self._end.text, progress=self._progress)
        if status is None:  # no fault of what was in hand, and nobody is there to start another
            return Ending(UnfinishedError.exit_code, GONE, progress=self._progress)
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return Ending(0, how, died=True, progress=self._progress)

    def _kill(self, working: Working, ending: Ending) -> Ending:
        self._over = True  # it must lose its shards even if it cannot be killed
        working.kill()
        working.ended(10.0)
        return ending

    def _release(self, ending: Ending) -> None:
        """Rule 7: who watches writes it down for who died."""
        for shard, epoch in sorted(self._heart.claims):
            try:
                # the beat lists claims that were only attempted too: those may be somebody else's
                claim = decode(self._store.get(layout.claim(shard, epoch)) or b"{}")
                if claim.get("worker") != self._heart.worker:
                    continue
                hand = self._heart.hand if ending.died else ()
                release(self._store, shard, epoch, ending.text or "stopped", died=ending.died, hand=hand)
            except (StoreAwayError, StoreFullError) as error:
                log.warning(
                    "%s: what is in hand is not released (%s); it is free after the TTL", self._name, error
                )
                return  # the others would wait for nothing, one by one
            except (WorkerError, ValueError) as error:
                log.warning(
                    "%s: shard %s is not released (%s); it is free after the TTL", self._name, shard, error
                )
