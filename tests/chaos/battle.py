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
from tests.chaos.work import Work
from tests.tasks.chaotic import CAUGHT, SLOW, TRAP
from tests.workers import Worker, processes_of, worker
from worker.queue import layout
from worker.queue.answers import read_shard
from worker.queue.store import open_store
from worker.queue.text import encode

SLOW_S = 0.3
PATIENCE = "60s"
LOOK_EVERY_S = 0.05
STOPPED = 75
LATE_MOST_S = 30.0
HURRY_AFTER = 0.1
"""of the shards: so far behind the schedule, no blow waits for the one before"""


class Battle:
    def __init__(self, place: Place, blows: Sequence[Blow], work: Work, ttl: float, workers: int) -> None:
        self.struck: list[Blow] = []
        self.troubles: list[str] = []
        self.commits: dict[str, bytes] = {}
        """each as it was when it was first seen"""
        self.late = 0
        """how many stood still just before a commit"""
        self._place = place
        self._store = open_store(place.queue)
        self._blows = [blow for blow in blows if place.disk or blow.way is not Way.FULL]
        self._shards = work.shards
        self._to_drop = list(work.dropped)
        self._dropped: set[str] = set()
        """what will say that they are cut"""
        self._ttl = ttl
        self._next = 0.0
        self._expected: dict[Worker, set[int]] = {}
        """the exit codes that would be right"""
        self._found: dict[Worker, set[str]] = {}
        """what was asked for when it began"""
        self._errands: list[Worker] = []
        """commands that are no workers"""
        self._trapped: set[Worker] = set()
        self._awaits: dict[Worker, str] = {}
        """until somebody else has made this commit they stand still"""
        self._bereaved: set[Worker] = set()
        """of a child: who dies twice over one item fails it, and that is right"""
        self._all: list[Worker] = []
        self._frozen: dict[Worker, float] = {}
        self._full_until = 0.0
        self._working = [self._start() for _ in range(workers)]

    @property
    def kills(self) -> int:
        return sum(blow.way in KILLS for blow in self.struck)

    @property
    def zombies(self) -> int:
        """Those of `late` that found no last answer were none."""
        return sum(blow.way in ZOMBIES and blow.way is not Way.LATE for blow in self.struck) + self.late

    def run(self, limit: float) -> None:
        """Until all is done, however slow the machine is; nothing may stand still for longer than `limit`."""
        came_so_far, moved = (0, 0, 0), time.monotonic()
        while self._working or self._errands:
            now = time.monotonic()
            if (so_far := self._so_far()) != came_so_far:
                came_so_far, moved = so_far, now
            if now - moved > limit:
                said = "\n".join(one.said[-2000:] for one in self._working)
                self.troubles.append(f"nothing moved for {limit:g} s; the workers said:\n{said}")
                return
            self._spring(now)
            self._wake(now)
            self._bury()
            self._look()
            self._strike(now)
            # the store is there for the workers: half of the time at least it is not asked
            time.sleep(max(LOOK_EVERY_S, time.monotonic() - now))
        for blow in self._blows:
            self.troubles.append(f"the work was over before {blow.way.name}, due at {blow.commits} commits")
        self._look()
        self._judge_the_dead()

    def rewritten(self) -> int:
        """Commits that are not what they were when they were first seen."""
        return sum(self._store.get(name) != data for name, data in self.commits.items())

    def _so_far(self) -> tuple[int, int, int]:
        """Commits, blows, and processes that have ended."""
        return len(self.commits), len(self.struck), sum(one.returncode is not None for one in self._all)

    def _start(self) -> Worker:
        asked = self._asked_for()
        # some items fail: 1
        one = self._command(1, "run", self._place.queue, "--ttl", f"{self._ttl:g}s", "--patience", PATIENCE)
        self._found[one] = asked
        return one

    def _command(self, code: int, *arguments: str) -> Worker:
        one = worker(*arguments, env={**self._place.env, SLOW: str(SLOW_S)})
        self._expected[one] = {code}
        self._all.append(one)
        return one

    def _look(self) -> None:
        """Commits are remembered as they were first seen: not a byte of them may change."""
        for entry in self._store.list(layout.DONE):
            if entry.name not in self.commits:
                self.commits[entry.name] = self._store.get(entry.name) or b""

    def _asked_for(self) -> set[str]:
        """What there must be in the end for all that was enqueued, dropped or asked for again so far."""
        shards = (layout.shard_of(entry.name) for entry in self._store.list(layout.ITEMS))
        return {*map(layout.done, shards), *self._dropped}

    def _is_there(self, asked: set[str]) -> bool:
        self._look()
        return asked <= {*self.commits, *(entry.name for entry in self._store.list(layout.TAKEN))}

    def _bury(self) -> None:
        """Who was killed or stopped is replaced at once; who says that all is done is asked for proof."""
        for number, one in reversed(list(enumerate(self._working))):
            if one.poll() is None:
                continue
            self._trapped.discard(one)
            is_over = one.returncode == 1 and self._is_there(self._asked_for())
            if self._is_there(self._found[one]):
                # what else there is came later, perhaps between its last look at the list and its last word
                self._expected[one].add(STOPPED)
            elif one.returncode == 1:
                self.troubles.append(f"a worker left when {len(self.commits)} shards were committed")
            if is_over:
                del self._working[number]
            else:
                self._working[number] = self._start()
        for one in self._errands[:]:
            if one.poll() is not None:
                self._errands.remove(one)
                if not self._working and not self._is_there(self._asked_for()):
                    self._working.append(self._start())

    def _strike(self, now: float) -> None:
        if not self._blows:
            return
        ahead = len(self.commits) - self._blows[0].commits
        # a fast machine must not be done before the last blow falls
        is_late = ahead > HURRY_AFTER * self._shards
        if ahead < 0 or (now < self._next and not is_late):
            return
        victims = [one for one in self._working if one not in self._frozen]
        victims = [one for one in victims if one not in self._trapped] or victims
        if not victims or (self._blows[0].way is Way.DROP and self._full_until):
            return
        blow = self._blows.pop(0)
        self._next = now + blow.gap
        self.struck.append(blow)
        victims.sort(key=self._all.index)  # the eldest first
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
            case Way.LATE:
                (victim.temp / CAUGHT).unlink(missing_ok=True)  # of the last time
                (victim.temp / TRAP).touch()
                self._trapped.add(victim)
            case Way.CHILD if victim not in self._bereaved and (children := preparing(victim)):
                self._bereaved.add(victim)
                with suppress(ProcessLookupError):
                    os.kill(children[0], signal.SIGKILL)
            case Way.CHILD:
                pass  # it has none just now, or lost one before
            case Way.DROP:
                self._drop()
            case Way.RETRY:
                self._errands.append(self._command(0, "retry", self._place.queue))
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

    def _drop(self) -> None:
        file = self._to_drop.pop()
        name = f"{layout.INBOX}{len(self._to_drop)}.jsonl"
        content = b"".join(encode({"input": one}) + b"\n" for one in file)
        self._store.put(name, content)
        self._dropped.add(layout.taken(name, content))

    def _spring(self, now: float) -> None:
        """Who is caught stands still until the others, and one more in its place, have done its work."""
        for one in list(self._trapped):
            if said := read(one.temp / CAUGHT):
                one.signal_all(signal.SIGSTOP)
                (one.temp / TRAP).unlink()
                self.late += 1
                self._trapped.discard(one)
                self._awaits[one] = layout.done(self._shard_with(said))
                self._frozen[one] = now + LATE_MOST_S
                self._working.append(self._start())

    def _shard_with(self, input: str) -> str:
        """The first that is not done, for of an item that is asked for again there are several; else one that
        is: then others were faster, and nobody need wait for them."""
        shards = [layout.shard_of(entry.name) for entry in self._store.list(layout.ITEMS)]
        shards.sort(key=lambda shard: layout.done(shard) in self.commits)
        holds = (s for s in shards if any(item.input == input for item in read_shard(self._store, s).items))
        return next(holds, "")

    def _wake(self, now: float) -> None:
        for one, when in list(self._frozen.items()):
            if now >= when or self._awaits.get(one) in self.commits:
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


def preparing(one: Worker) -> list[int]:
    """The children of its fork server."""
    parents = {pid: parent_of(pid) for pid in processes_of(one.mark)}
    loop = working_process(one)
    return [pid for pid, parent in parents.items() if loop and parents.get(parent) == loop]


def read(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def working_process(one: Worker) -> int:
    """The one of its processes that goes round the loop; 0: it is not there."""
    for pid in processes_of(one.mark):
        with suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text() == "worker-loop\n":
                return pid
    return 0
