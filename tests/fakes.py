"""Stand-ins for time and for a heart, moved by hand; and a store that tells what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

from worker.errors import StoreAwayError
from worker.items import Answer, Failure, Item, Result
from worker.queue import layout
from worker.queue.beat import Claim, Heart
from worker.queue.claims import Claims
from worker.queue.holding import Holding
from worker.queue.shards import Shard, cut
from worker.queue.store import Store, open_store

_names = count()


class HandClock:
    """Time moves when the test says so, or when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.wall_time = 1_800_000_000.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def wall(self) -> float:
        return self.wall_time


class TalkativeStore:
    """A memory store that keeps a list of what it was asked, and fails on demand."""

    def __init__(self) -> None:
        self._store: Store = open_store(f"memory://fakes-{next(_names)}")
        self.url = self._store.url
        self.calls: list[tuple[str, str]] = []
        self.away = False
        self.lose: set[str] = set()
        """names whose next write is applied and then reported as failed"""

    def __getattr__(self, operation: str) -> Any:
        call = getattr(self._store, operation)

        def ask(name: str = "", *arguments: Any, **options: Any) -> Any:
            self.calls.append((operation, name))
            if self.away:
                raise StoreAwayError("away")
            answer = call(name, *arguments, **options)
            if name in self.lose:
                self.lose.discard(name)
                raise StoreAwayError("applied, and no answer")
            return answer

        return ask

    def create_all(self, objects: Iterable[tuple[str, bytes]]) -> None:
        for name, data in objects:
            self.create(name, data)

    def at_once(self, call: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
        return [call(value) for value in values]

    @contextmanager
    def outage(self) -> Iterator[None]:
        self.away = True
        yield
        self.away = False

    def written(self) -> list[str]:
        return [name for operation, name in self.calls if operation in ("create", "put")]


class HandLife:
    """A heart that beats when the test says so."""

    def __init__(self, store: TalkativeStore, clock: HandClock, worker: str, ttl: float = 60.0) -> None:
        self.heart = Heart(store, worker, ttl, clock)  # type: ignore[arg-type]
        self.worker, self.ttl = worker, ttl

    @property
    def gaps(self) -> int:
        return self.heart.gaps

    def say(self, claims: frozenset[Claim], hand: tuple[str, ...]) -> None:
        self.heart.claims, self.heart.hand = claims, hand

    def beat_now(self) -> bool:
        return self.heart.beat()


class Bench:
    """A queue with some shards, a clock, and as many workers as the test asks for."""

    def __init__(self, items: int = 8, shard_size: int = 4, ttl: float = 60.0) -> None:
        self.store = TalkativeStore()
        self.clock = HandClock()
        self.ttl = ttl
        self.shards: list[Shard] = cut(
            [Item(id=f"id{n}", input=f"{n:03d}") for n in range(items)], shard_size
        )
        for shard in self.shards:
            self.store.create(layout.items(shard.name), shard.data)
        self.lives: dict[str, HandLife] = {}

    def worker(self, name: str) -> Claims:
        self.lives[name] = HandLife(self.store, self.clock, name, self.ttl)
        return Claims(self.store, self.lives[name], self.clock, seed=1)  # type: ignore[arg-type]

    def take(self, claims: Claims) -> Holding:
        holding = claims.take()
        assert holding is not None, "nothing was free"
        return holding

    def wait(self, claims: Claims, seconds: float, beating: tuple[str, ...] = ()) -> Holding | None:
        """Ask again and again, as an idle worker does, while those named go on beating."""
        until = self.clock.time + seconds
        while self.clock.time < until:
            for name in beating:
                self.lives[name].heart.beat()
            if holding := claims.take():
                return holding
            self.clock.sleep(claims.poll)
        return None

    def take_carefully(self, claims: Claims) -> Holding:
        """The next shard, after two holders died silently."""
        for name in ("dead1", "dead2"):
            assert self.wait(self.worker(name), 10 * self.ttl)
        holding = self.wait(claims, 10 * self.ttl)
        assert holding is not None, "nothing was free"
        assert holding.careful
        return holding


def answered(item: Item, by: str = "") -> Result:
    return Result(item.id, item.input, Answer({"by": by}))


def failed(item: Item, kind: str = "error") -> Result:
    return Result(item.id, item.input, Failure(kind, "no"))
