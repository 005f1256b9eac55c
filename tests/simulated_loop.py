"""The simulator's workers with the whole loop in them: its clerk, its pool and its device in virtual time.

Threads are greenlets here. Everything else is the real thing: Loop, Looking, Inbox, Claims, Holding, Heart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from greenlet import getcurrent

from tests.simulator import Died, Machine, Simulation, World
from worker.device import Device
from worker.errors import StoreAwayError
from worker.items import Answer, Item
from worker.looking import Looking
from worker.loop import Loop
from worker.pool import Prepared
from worker.queue import layout
from worker.queue.claims import Claims
from worker.queue.inbox import Inbox
from worker.queue.text import decode
from worker.tasks.task import MapTask, Params


class Bell:
    """Greenlets wait for it; who rings it wakes them at this very moment."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: list[Callable[[], None]] = []

    def wait(self, seconds: float) -> None:
        me, woken = getcurrent(), False

        def wake() -> None:
            nonlocal woken
            if not woken:
                woken = True
                me.switch()

        self._waiting.append(wake)
        self._world.give_way(self._world.time + seconds, wake)

    def ring(self) -> None:
        for wake in self._waiting:
            self._world.at(self._world.time, wake)
        self._waiting.clear()


class SimulatedFuture(Future[Any]):
    def __init__(self, world: World) -> None:
        super().__init__()
        self._bell = Bell(world)

    def result(self, timeout: float | None = None) -> Any:
        del timeout
        while not self.done():
            self._bell.wait(60.0)
        return super().result(0)

    def do(self, call: Callable[..., object], *args: object) -> None:
        try:
            self.set_result(call(*args))
        except Exception as error:
            self.set_exception(error)
        self._bell.ring()


class SimulatedClerk:
    """What worker.clerk.Clerk does, in a greenlet of the same machine."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._bell = Bell(world)
        self._calls: deque[tuple[SimulatedFuture, Callable[..., object], tuple[object, ...]]] = deque()
        self._waiting: deque[SimulatedFuture] = deque()
        self._open = True
        world.spawn(world.machine(), self._work)

    def _work(self) -> None:
        while self._open:
            if self._calls:
                future, call, args = self._calls.popleft()
                future.do(call, *args)
            else:
                self._bell.wait(60.0)

    def start(self, call: Callable[..., object], *args: object) -> SimulatedFuture:
        future = SimulatedFuture(self._world)
        self._calls.append((future, call, args))
        self._bell.ring()
        return future

    def later(self, call: Callable[..., object], *args: object) -> None:
        self._waiting.append(self.start(call, *args))
        self.check()

    def check(self) -> None:
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft().result()

    def now(self, call: Callable[..., object], *args: object) -> object:
        future = self.start(call, *args)
        self.drain()
        return future.result()

    def drain(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()

    def close(self) -> None:
        self._open = False
        self._bell.ring()


class SimulatedThread:
    """An executor of one worker: the thread of its device."""

    def __init__(self, world: World) -> None:
        self._world = world

    def submit(self, call: Callable[..., object], *args: object) -> SimulatedFuture:
        future = SimulatedFuture(self._world)
        self._world.spawn(self._world.machine(), lambda: future.do(call, *args))
        return future


class SimulatedPool:
    """Children that take so many seconds an item, from and to."""

    def __init__(self, world: World, children: int, seconds: tuple[float, float], ahead: int) -> None:
        self._world = world
        self._children, self._seconds, self._ahead = children, seconds, ahead
        self._bell = Bell(world)
        self._rings = False
        self._items: list[tuple[float, Item]] = []

    @property
    def under_way(self) -> int:
        return len(self._items)

    def submit(self, item: Item) -> None:
        busy_until = sorted(until for until, _ in self._items)[-self._children :]
        begins = max([self._world.time, *busy_until[: len(busy_until) == self._children]])
        self._items.append((begins + self._world.random.uniform(*self._seconds), item))
        assert len(self._items) <= self._ahead, "further ahead than the device needs"

    def poll(self, timeout: float) -> list[Prepared]:
        until = self._world.time + timeout
        while True:
            ready = [(at, item) for at, item in self._items if at <= self._world.time]
            if ready or self._rings or self._world.time >= until:
                self._rings = False
                self._items = [one for one in self._items if one not in ready]
                return [Prepared(item, item, sum(self._seconds) / 2) for _, item in ready]
            soonest = min([until, *(at for at, _ in self._items)])
            self._bell.wait(soonest - self._world.time)

    def wake(self) -> None:
        self._rings = True
        self._bell.ring()

    def drop(self) -> list[Item]:
        items, self._items = [item for _, item in self._items], []
        return items


class Answers(MapTask[Params, Item]):
    name = "device"
    about = "for the simulator"
    takes = "values"
    seconds_per_item = 5.0

    def __init__(self, answer: Callable[[Sequence[Item]], list[Answer]]) -> None:
        super().__init__(Params())
        self._answer = answer

    def answer(self, samples: Sequence[Item]) -> Sequence[Answer]:
        return self._answer(samples)


@dataclass
class LoopSimulation(Simulation):
    """Each worker goes round the real loop, and is told to stop now and then."""

    stop_every: float = 0.0
    """seconds between two stops of one worker, about; 0: never"""
    batch: int = 2
    ahead: int = 4
    children: int = 2
    prepare_s: tuple[float, float] = (0.5, 3.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stops = 0
        self.batches: list[tuple[float, float, int]] = []
        """on a device: from when to when, and how many"""

    def run(self, until: float = 40_000.0) -> LoopSimulation:
        with self._virtual():
            super().run(until)
        return self

    @contextmanager
    def _virtual(self) -> Iterator[None]:
        time = SimpleNamespace(monotonic=lambda: self.world.time, time=lambda: self.world.time)
        with (
            patch("worker.loop.time", time),
            patch("worker.supply.time", time),
            patch("worker.device.time", time),
            patch("worker.looking.time", time),
            patch("worker.loop.Clerk", lambda _: SimulatedClerk(self.world)),
        ):
            yield

    def _work(self, claims: Claims) -> None:
        machine = self.world.machine()
        inbox = Inbox(self.store, self.shard_size, self.ttl, self.clock, lambda _: ([], []))  # type: ignore[arg-type]
        task = Answers(lambda samples: self._answer(machine, samples))
        loop = Loop(
            Device(task, self.batch, SimulatedThread(self.world)),  # type: ignore[arg-type]
            Looking(claims, inbox),
            SimulatedPool(self.world, self.children, self.prepare_s, max(self.ahead, 2 * self.batch)),
            lambda _: None,
            worker=machine.name,
            ahead=self.ahead,
            flush_s=self.ttl / 4,
        )
        if self.stop_every:
            moment = self.world.random.uniform(0.0, 2.0) * self.stop_every
            self.world.at(self.world.time + moment, lambda: self._stop(machine, loop))
        try:
            loop.run()
            self._check_hand_back(machine)
        except StoreAwayError:
            pass  # such a worker ends, and is started again by whoever started it
        self.world.kill(machine)

    def _check_hand_back(self, machine: Machine) -> None:
        """Who ends in peace leaves nothing for which others would have to wait."""
        for name, data in self.store.objects.items():
            claim = layout.claim_of(name)
            if not claim or claim[2] or decode(data)["worker"] != machine.name:
                continue
            shard, epoch, _ = claim
            is_free = {layout.done(shard), layout.released(shard, epoch), layout.claim(shard, epoch + 1)}
            assert is_free & self.store.objects.keys(), "a shard was kept after the end"

    def _stop(self, machine: Machine, loop: Loop) -> None:
        if not machine.dead and not loop.handed_back.is_set():
            self.stops += 1
            loop.stop("SIGTERM")

    def _answer(self, machine: Machine, samples: Sequence[Item]) -> list[Answer]:
        answers = []
        begun = self.world.time
        for item in samples:
            self.ran[item.id] += 1
            self.clock.sleep(self.seconds_per_item * self.world.random.uniform(0.5, 1.5))
            if item.input in self.poison:
                self.world.kill(machine)
                raise Died
            answers.append(Answer({"by": f"{machine.name}-{self.ran[item.id]}"}))
        self.batches.append((begun, self.world.time, len(samples)))
        return answers

    @property
    def idle_share(self) -> float:
        """Of one worker's device, from its first batch to its last."""
        busy = sum(end - begin for begin, end, _ in self.batches)
        return 1 - busy / (self.batches[-1][1] - self.batches[0][0])
