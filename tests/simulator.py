"""Many workers on one queue in virtual time, with every fault that a store and a machine can have.

The workers run the real claims, holdings and hearts, each as a greenlet that gives way at every store call
and every sleep. One seed, one history.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

from worker.errors import StoreAwayError
from worker.items import Answer, Item, Result
from worker.queue import layout
from worker.queue.answers import read_done
from worker.queue.beat import IDLE, Beat, Claim, Heart
from worker.queue.claims import Claims
from worker.queue.finals import final_answers
from worker.queue.holding import Holding, release
from worker.queue.shards import Shard, cut
from worker.queue.store import Entry

T = TypeVar("T")
R = TypeVar("R")


class Died(BaseException):
    """The machine is gone: nothing after this line happens."""


@dataclass(frozen=True)
class Faults:
    """Chances, each a call of the store unless it says otherwise."""

    lost_ack: float = 0.0
    """the write is applied and reported as failed"""
    late: float = 0.0
    """the write is reported as failed and applied up to two TTL later"""
    refused: float = 0.0
    """the call fails and nothing happens"""
    death: float = 0.0
    """the worker dies, before or after the call is applied"""
    pause: float = 0.0
    """the whole worker stands still for up to three TTL, then goes on"""
    stale: float = 0.0
    """a list shows what was there up to half a TTL ago"""
    outage_every: float = 0.0
    """seconds between outages of the store, each up to two TTL long; 0: none"""
    until: float = 3_000.0
    """no faults after this; then everything must end"""


HEAVY = Faults(lost_ack=0.02, late=0.02, refused=0.02, death=0.01, pause=0.004, stale=0.1, outage_every=400)


@dataclass
class Machine:
    """One incarnation of a worker: what dies or pauses together."""

    name: str
    dead: bool = False
    paused_until: float = 0.0
    fall_silent: Callable[[], None] = lambda: None


class World:
    """Virtual time, and who runs next."""

    def __init__(self, seed: int, faults: Faults = Faults(), ttl: float = 60.0) -> None:
        self.random = random.Random(seed)
        self.faults = faults
        self.ttl = ttl
        self.time = 0.0
        self.calls: Counter[str] = Counter()
        self.calls_of: Counter[str] = Counter()
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._sequence = 0
        self._threads: list[greenlet] = []
        self._hub = getcurrent()
        self._outages: list[tuple[float, float]] = []
        self.after_step: Callable[[], None] = lambda: None
        at = 0.0
        while faults.outage_every and at < faults.until:
            at += self.random.uniform(0.5, 1.5) * faults.outage_every
            self._outages.append((at, at + self.random.uniform(0.1, 2.0) * ttl))

    def at(self, when: float, action: Callable[[], object]) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (when, self._sequence, action))

    def spawn(self, machine: Machine, script: Callable[[], object], when: float = 0.0) -> None:
        def run() -> None:
            try:
                script()
            except Died:
                pass

        thread = greenlet(run, parent=self._hub)
        thread.machine = machine  # type: ignore[attr-defined]
        self._threads.append(thread)
        self.at(self.time + when, thread.switch)

    def machine(self) -> Machine:
        found = getattr(getcurrent(), "machine", None)
        assert isinstance(found, Machine)
        return found

    def wait(self, seconds: float) -> None:
        self.give_way(self.time + seconds, getcurrent().switch)

    def give_way(self, when: float, wake: Callable[[], object]) -> None:
        """The running greenlet waits to be switched to; it never comes back if its machine died meanwhile."""
        machine = self.machine()
        me = getcurrent()
        self.at(when, wake)
        self._hub.switch()
        while self.time < machine.paused_until and not machine.dead:
            self.at(machine.paused_until, me.switch)
            self._hub.switch()
        if machine.dead:
            raise Died

    def kill(self, machine: Machine) -> None:
        machine.dead = True
        machine.fall_silent()

    def chance(self, probability: float) -> bool:
        return self.time < self.faults.until and self.random.random() < probability

    @property
    def away(self) -> bool:
        return any(start <= self.time < end for start, end in self._outages)

    def run(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        while self._queue and not stop():
            when, _, action = heapq.heappop(self._queue)
            self.time = max(self.time, when)
            assert self.time < until, f"livelock: not finished after {until} virtual seconds"
            action()
            self.after_step()

    def close(self) -> None:
        """Let every greenlet go, so that none lingers after the test."""
        for thread in self._threads:
            if not thread.dead:
                thread.throw(GreenletExit)
        self._threads.clear()
        self._queue.clear()


class SimulatedClock:
    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> float:
        return self._world.time

    def sleep(self, seconds: float) -> None:
        self._world.wait(seconds)

    def wall(self) -> float:
        return 0.0


class SimulatedStore:
    """What a Store looks like behind its retries: it answers, or it was away for longer than patience."""

    url = "simulated://queue"

    def __init__(self, world: World) -> None:
        self._world = world
        self.objects: dict[str, bytes] = {}
        self.written: dict[str, int] = Counter()
        self._born: list[tuple[float, str]] = []

    # the adapter's surface

    def create(self, name: str, data: bytes, *, durable: bool = True) -> bool:
        del durable

        def apply() -> bool:
            if name in self.objects:
                return self.objects[name] == data
            self._write(name, data)
            return True

        return self._call("create", apply)

    def create_all(self, objects: Iterable[tuple[str, bytes]]) -> None:
        for name, data in objects:
            self.create(name, data)

    def put(self, name: str, data: bytes, *, retry: bool = True, durable: bool = True) -> None:
        del retry, durable
        self._call("put", lambda: self._write(name, data))

    def get(self, name: str) -> bytes | None:
        return self._call("get", lambda: self.objects.get(name), write=False)

    def head(self, name: str) -> Entry | None:
        return self._call("head", lambda: self._entry(name) if name in self.objects else None, write=False)

    def list(self, prefix: str = "") -> list[Entry]:
        def look() -> list[Entry]:
            now = self._world.time
            if self._world.chance(self._world.faults.stale):
                now -= self._world.random.uniform(0, self._world.ttl / 2)
            seen = self._born[: bisect_right(self._born, (now, "\uffff"))]
            return [self._entry(name) for name in sorted({n for _, n in seen}) if name.startswith(prefix)]

        return self._call("list", look, write=False)

    def at_once(self, call: Callable[[T], R], values: Sequence[T]) -> list[R]:
        """One by one, in the order given: a run repeats."""
        return [call(value) for value in values]

    # faults

    def _call(self, kind: str, apply: Callable[[], T], write: bool = True) -> T:
        world, faults = self._world, self._world.faults
        world.calls[kind] += 1
        world.calls_of[world.machine().name] += 1
        if world.chance(faults.pause):
            world.machine().paused_until = world.time + world.random.uniform(0.1, 3.0) * world.ttl
            world.machine().fall_silent()
        world.wait(world.random.uniform(0.001, 0.05))
        if world.chance(faults.death / 2):
            self._die()
        if world.away or world.chance(faults.refused):
            world.wait(world.random.uniform(0.0, 5.0))
            raise StoreAwayError("away")
        if write and world.chance(faults.late):
            delay = world.random.uniform(0.0, 2.0) * world.ttl
            world.at(world.time + delay, apply)
            raise StoreAwayError("no answer, and then it was applied")
        answer = apply()
        if world.chance(faults.death / 2):
            self._die()
        if write and world.chance(faults.lost_ack):
            raise StoreAwayError("applied, and no answer")
        return answer

    def _die(self) -> None:
        self._world.kill(self._world.machine())
        raise Died

    def _write(self, name: str, data: bytes) -> None:
        if name not in self.objects:
            self._born.append((self._world.time, name))
        self.objects[name] = data
        self.written[name] += 1

    def _entry(self, name: str) -> Entry:
        return Entry(name, len(self.objects[name]), str(self.written[name]))


class SimulatedLife:
    """A heart and the loop's way to it, in one process here."""

    def __init__(self, heart: Heart, clock: SimulatedClock) -> None:
        self.worker, self.ttl = heart.worker, heart.ttl
        self._heart = heart
        self._clock = clock

    @property
    def gaps(self) -> int:
        return self._heart.gaps

    def say(self, claims: frozenset[Claim], hand: tuple[str, ...]) -> None:
        self._heart.claims, self._heart.hand = claims, hand

    def beat_now(self) -> bool:
        give_up = self._clock.now() + self.ttl
        while self._clock.now() < give_up:
            if self._heart.beat():
                return True
            self._clock.sleep(1.0)
        return False


@dataclass
class Simulation:
    """A queue, some workers, and what must hold after every step and at the end."""

    seed: int
    faults: Faults
    items: int = 96
    shard_size: int = 8
    workers: int = 4
    poison: frozenset[str] = frozenset()
    """inputs that kill whoever answers them"""
    parent_survives: bool = False
    """a dying worker's parent lives to write `.released`"""
    seconds_per_item: float = 10.0
    ttl: float = 60.0
    replaced: bool = True
    """after a machine's death another one comes"""

    def __post_init__(self) -> None:
        self.world = World(self.seed, self.faults, self.ttl)
        self.machines: dict[str, Machine] = {}
        self.clock = SimulatedClock(self.world)
        self.store = self._make_store()
        self.shards: list[Shard] = cut(
            (Item(id=f"id{n:04d}", input=f"{n:04d}") for n in range(self.items)), self.shard_size
        )
        for shard in self.shards:
            self.store._write(layout.items(shard.name), shard.data)
        self.ran: Counter[str] = Counter()
        self.commits: dict[str, bytes] = {}
        self.deaths = 0
        self.done_at: float | None = None
        self.suspected: Counter[str] = Counter()
        self.world.after_step = self._check_step

    def _make_store(self) -> SimulatedStore:
        return SimulatedStore(self.world)

    def run(self, until: float = 40_000.0) -> Simulation:
        for number in range(self.workers):
            self._start(f"w{number}", delay=self.world.random.uniform(0, 5))
        try:
            self.world.run(until, stop=self._all_quiet)
        finally:
            self.world.close()
        self._check_end()
        return self

    # workers

    def _start(self, name: str, delay: float) -> None:
        machine = self.machines[name] = Machine(name)
        heart = Heart(self.store, name, self.ttl, self.clock)  # type: ignore[arg-type]
        heart.info = {"state": IDLE}
        machine.fall_silent = lambda: self._suspect(heart)
        life = SimulatedLife(heart, self.clock)

        def beating() -> None:
            while True:
                heart.beat()
                beaten = self.clock.now()
                while (left := beaten + heart.pause - self.clock.now()) > 0:  # a claim may end a rest
                    self.clock.sleep(min(left, self.ttl / 4))

        def working() -> None:
            self._work(Claims(self.store, life, self.clock, self.seed))  # type: ignore[arg-type]

        def supervise() -> None:
            """Outside the machine: when it is dead, another one comes."""
            if machine.dead:
                self.deaths += 1
                self._bury(heart)
                if self.replaced:
                    self._start(name.split("+")[0] + f"+{self.deaths}", self.world.random.uniform(1, 20))
            elif not self._all_done():
                self.world.at(self.world.time + 5, supervise)

        heart.acknowledged = self.world.time + delay
        self.world.spawn(machine, beating, delay)
        self.world.spawn(machine, working, delay)
        self.world.at(self.world.time + delay, supervise)

    def _suspect(self, heart: Heart) -> None:
        """Items that were in hand, or said to be, when a machine died or paused: suspects by rights."""
        said = self.store.objects.get(layout.worker(heart.worker))
        beat = Beat.decode(said) if said else None
        self.suspected.update({*heart.hand, *(beat.hand if beat else ())})

    def _bury(self, heart: Heart) -> None:
        if not self.parent_survives:
            return
        undertaker = Machine(heart.worker + "-parent")

        def write() -> None:
            for shard, epoch in heart.claims:
                try:
                    release(self.store, shard, epoch, "died", died=True, hand=heart.hand)  # type: ignore[arg-type]
                except StoreAwayError:
                    pass

        self.world.spawn(undertaker, write)

    def _work(self, claims: Claims) -> None:
        while not self._all_done():
            try:
                holdings = [] if claims.rests() else claims.take_many(self._together())
            except StoreAwayError:
                self.clock.sleep(1.0)
                continue
            for holding in holdings:
                self._hold(holding)
            if not holdings:
                self.clock.sleep(claims.poll)

    def _together(self) -> int:
        """How many shards a worker would like at once."""
        return self.world.random.choice((1, 1, 3))

    def _hold(self, holding: Holding) -> None:
        try:
            for item in holding.left():
                if not holding.ours() or not holding.begin([item]):
                    holding.drop()
                    return
                self.ran[item.id] += 1
                self.clock.sleep(self.seconds_per_item * self.world.random.uniform(0.5, 1.5))
                if item.input in self.poison:
                    self.world.kill(self.world.machine())
                    raise Died
                answer = {"by": f"{self.world.machine().name}-{holding.epoch}-{self.ran[item.id]}"}
                holding.add([Result(item.id, item.input, Answer(answer))])
                if holding.careful or self.world.random.random() < 0.3:
                    self._flush(holding)
            holding.commit()
        except StoreAwayError:
            holding.drop()

    def _flush(self, holding: Holding) -> None:
        """After a write that failed some workers go on and try again later, others give up."""
        try:
            holding.flush()
        except StoreAwayError:
            if self.world.random.random() < 0.5:
                raise

    # what must hold

    def _all_quiet(self) -> bool:
        """Done, and the last zombie has had the time to come back."""
        if self._all_done() and self.done_at is None:
            self.done_at = self.world.time
        return self.done_at is not None and self.world.time > self.done_at + 4 * self.ttl

    def _all_done(self) -> bool:
        return all(layout.done(s.name) in self.store.objects for s in self.shards)

    def _check_step(self) -> None:
        """A commit never changes, and lists only what lies there."""
        for shard in self.shards:
            name = layout.done(shard.name)
            if name in self.commits:
                assert self.store.objects[name] == self.commits[name], "a commit was rewritten"
            elif name in self.store.objects:
                self.commits[name] = self.store.objects[name]

    def _check_end(self) -> None:
        assert self._all_done()
        reader = QuietStore(self.store)
        done = [read_done(reader, s.name) for s in self.shards]  # type: ignore[arg-type]
        answers = {result.item: result for result in final_answers(done)}
        assert sorted(answers) == sorted(i.id for s in self.shards for i in s.items), "an item was lost"
        failed = {r.input for r in answers.values() if not r.ok}
        unlucky = {r.input for r in answers.values() if self.suspected[r.item] >= 2}
        assert self.poison <= failed, f"poison was answered: {self.poison - failed}"
        assert failed <= self.poison | unlucky, f"innocents failed: {failed - self.poison - unlucky}"


class QuietStore:
    """The objects as they are, for the judge."""

    def __init__(self, store: SimulatedStore) -> None:
        self.url, self._objects = store.url, store.objects

    def get(self, name: str) -> bytes | None:
        return self._objects.get(name)
