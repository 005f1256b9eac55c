"""One round on one store: workers at work, blows, replacements, until all is done."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.chaos.places import Place
from tests.chaos.schedule import KILLS, ZOMBIES, Blow, Way
from tests.tasks.chaotic import SLOW
from tests.workers import Worker, processes_of, worker
from worker.queue import layout
from worker.queue.store import open_store

SLOW_S = 0.12
PATIENCE = "60s"
LOOK_EVERY_S = 0.05
STOPPED = 75
HURRY_AFTER = 0.1
"""of the shards: so far behind the schedule, no blow waits for the one before"""


class Battle:
    def __init__(self, place: Place, blows: Sequence[Blow], shards: int, ttl: float, workers: int) -> None:
        self.struck: list[Blow] = []
        self.troubles: list[str] = []
        self.commits: dict[str, bytes] = {}
        """each as it was when it was first seen"""
        self._place = place
        self._store = open_store(place.queue)
        self._blows = [blow for blow in blows if place.disk or blow.way is not Way.FULL]
        self._shards = shards
        self._ttl = ttl
        self._next = 0.0
        self._expected: dict[Worker, set[int]] = {}
        """the exit codes that would be right"""
        self._all: list[Worker] = []
        self._frozen: dict[Worker, float] = {}
        self._full_until = 0.0
        self._working = [self._start() for _ in range(workers)]

    @property
    def kills(self) -> int:
        return sum(blow.way in KILLS for blow in self.struck)

    @property
    def zombies(self) -> int:
        return sum(blow.way in ZOMBIES for blow in self.struck)

    def run(self, limit: float) -> None:
        until = time.monotonic() + limit
        while self._working:
            now = time.monotonic()
            if now > until:
                said = "\n".join(one.said[-2000:] for one in self._working)
                self.troubles.append(f"not done after {limit:g} s; the workers said:\n{said}")
                return
            self._wake(now)
            self._bury()
            self._look()
            self._strike(now)
            time.sleep(LOOK_EVERY_S)
        for blow in self._blows:
            self.troubles.append(f"the work was over before {blow.way.name}, due at {blow.commits} commits")
        self._look()
        self._judge_the_dead()

    def rewritten(self) -> int:
        """Commits that are not what they were when they were first seen."""
        return sum(self._store.get(name) != data for name, data in self.commits.items())

    def _start(self) -> Worker:
        env = {**self._place.env, SLOW: str(SLOW_S)}
        one = worker("run", self._place.queue, "--ttl", f"{self._ttl:g}s", "--patience", PATIENCE, env=env)
        self._expected[one] = {1}  # some items fail
        self._all.append(one)
        return one

    def _look(self) -> None:
        """Commits are remembered as they were first seen: not a byte of them may change."""
        for entry in self._store.list(layout.DONE):
            if entry.name not in self.commits:
                self.commits[entry.name] = self._store.get(entry.name) or b""

    def _bury(self) -> None:
        """Who was killed or stopped is replaced at once; who says that all is done is asked for proof."""
        for number, one in reversed(list(enumerate(self._working))):
            if one.poll() is None:
                continue
            if one.returncode == 1:
                self._look()
                if len(self.commits) < self._shards:
                    self.troubles.append(f"a worker left when {len(self.commits)} shards were committed")
            if one.returncode == 1 and len(self.commits) == self._shards:
                del self._working[number]
            else:
                self._working[number] = self._start()

    def _strike(self, now: float) -> None:
        if not self._blows:
            return
        ahead = len(self.commits) - self._blows[0].commits
        # a fast machine must not be done before the last blow falls
        is_late = ahead > HURRY_AFTER * self._shards
        if ahead < 0 or (now < self._next and not is_late):
            return
        victims = [one for one in self._working if one not in self._frozen]  # the eldest first
        if not victims:
            return
        blow = self._blows.pop(0)
        self._next = now + blow.gap
        self.struck.append(blow)
        victims.sort(key=self._all.index)
        self._hit(victims[int(blow.rank * len(victims))], blow, now)

    def _hit(self, victim: Worker, blow: Blow, now: float) -> None:
        match blow.way:
            case Way.FULL if self._place.disk:
                self._place.disk.fill()
                self._full_until = now + blow.lasts
            case Way.FREEZE:
                victim.signal_all(signal.SIGSTOP)
                self._frozen[victim] = now + blow.lasts
            case Way.MUTE:
                victim.send_signal(signal.SIGSTOP)
                self._frozen[victim] = now + blow.lasts
            case Way.STOP:
                victim.send_signal(signal.SIGTERM)
                self._expected[victim] |= {
                    STOPPED,
                    -signal.SIGTERM,
                }  # it may not have got so far as to listen
            case Way.LOOP if loop := working_process(victim):
                with suppress(ProcessLookupError):
                    os.kill(loop, signal.SIGKILL)
            case Way.PARENT:
                victim.kill()
                self._expected[victim].add(-signal.SIGKILL)
            case _:
                victim.signal_all(signal.SIGKILL)
                self._expected[victim].add(-signal.SIGKILL)

    def _wake(self, now: float) -> None:
        for one, when in list(self._frozen.items()):
            if now >= when:
                del self._frozen[one]
                one.signal_all(signal.SIGCONT)
        if self._full_until and now >= self._full_until and self._place.disk:
            self._full_until = 0.0
            self._place.disk.empty()

    def _judge_the_dead(self) -> None:
        for one in self._all:
            if one.returncode not in self._expected[one]:
                self.troubles.append(f"exit code {one.returncode}, it said:\n{one.said}")
            if "Traceback" in one.said:
                self.troubles.append(f"a traceback:\n{one.said}")


def working_process(one: Worker) -> int:
    """The one of its processes that goes round the loop; 0: it is not there."""
    for pid in processes_of(one.mark):
        with suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text() == "worker-loop\n":
                return pid
    return 0
