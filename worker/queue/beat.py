"""A worker's sign of life: one object that says which claims it holds, overwritten again and again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from worker.clock import Clock
from worker.errors import StoreAwayError, StoreFullError, WorkerError
from worker.items import Json
from worker.queue import layout
from worker.queue.store import Store
from worker.queue.text import decode, encode

IDLE = "idle"
"""the state of one that waits for work"""
ENDED = "ended"
"""the state in a worker's last beat"""
IDLE_TTLS = 30
"""between two beats of a worker that waits: they are for people alone"""

Claim = tuple[str, int]
"""shard, epoch"""


@dataclass(frozen=True, slots=True)
class Beat:
    worker: str
    counter: int
    ttl: float
    claims: frozenset[Claim] = frozenset()
    """held, or about to be attempted"""
    hand: tuple[str, ...] = ()
    """items that the device has begun"""
    info: Mapping[str, Json] = field(default_factory=dict)
    """for people: device, host, rates"""
    at: float = 0.0
    """wall clock, for people"""

    @property
    def pause(self) -> float:
        """Until the next one."""
        rests = not self.claims and self.info.get("state") == IDLE
        return self.ttl * IDLE_TTLS if rests else self.ttl / 4

    def encode(self) -> bytes:
        return encode(
            {
                "worker": self.worker,
                "counter": self.counter,
                "ttl": self.ttl,
                "claims": sorted(self.claims),
                "hand": self.hand,
                "info": dict(self.info),
                "at": round(self.at, 1),
            }
        )

    @staticmethod
    def decode(data: bytes) -> Beat | None:
        """None: no beat of ours. Fields of a later version are passed over."""
        try:
            record = decode(data)
            return Beat(
                worker=str(record["worker"]),
                counter=int(record["counter"]),
                ttl=float(record["ttl"]),
                claims=frozenset((str(shard), int(epoch)) for shard, epoch in record["claims"]),
                hand=tuple(record["hand"]),
                info=dict(record["info"]),
                at=float(record["at"]),
            )
        except (ValueError, KeyError, TypeError):
            return None


class Life(Protocol):
    """What the loop needs of the heart that beats for it, in this process or in another."""

    worker: str
    ttl: float

    @property
    def gaps(self) -> int:
        """How often beats went unacknowledged for the TTL, now included."""

    def say(self, claims: frozenset[Claim], hand: tuple[str, ...]) -> None:
        """What the next beat shall list."""

    def beat_now(self) -> bool:
        """Beat, and beat again until one is acknowledged. False: none was, within the TTL."""


class Heart:
    """Beats for one worker. A beat is never retried: the next one supersedes it."""

    def __init__(self, store: Store, worker: str, ttl: float, clock: Clock) -> None:
        self.worker = worker
        self.ttl = ttl
        self.claims: frozenset[Claim] = frozenset()
        self.hand: tuple[str, ...] = ()
        self.info: Mapping[str, Json] = {}
        self.acknowledged = clock.now()
        """when the last acknowledged beat was sent: rule 4 counts from there"""
        self.trouble: WorkerError | None = None
        """why the last beat was not acknowledged"""
        self.pause = ttl / 4
        """until the next beat"""
        self._failing_since = 0.0
        self._past_gaps = 0
        self._counter = 0
        self._store = store
        self._clock = clock

    @property
    def gaps(self) -> int:
        return self._past_gaps + (self._clock.now() - self.acknowledged > self.ttl)

    @property
    def trouble_s(self) -> float:
        """For how long no beat has been acknowledged though we tried."""
        return self._clock.now() - self._failing_since if self.trouble else 0.0

    def beat(self) -> bool:
        """One beat. True: acknowledged."""
        sent = self._clock.now()
        self._counter += 1
        beat = Beat(
            self.worker, self._counter, self.ttl, self.claims, self.hand, self.info, self._clock.wall()
        )
        try:
            self._store.put(layout.worker(self.worker), beat.encode(), retry=False, durable=False)
        except (StoreAwayError, StoreFullError) as error:
            if not self.trouble:
                self._failing_since = sent
            self.trouble, self.pause = error, self.ttl / 4
            return False
        self.trouble, self.pause = None, beat.pause
        # others may have seen the beat before this one until now
        if self._clock.now() - self.acknowledged > self.ttl:
            self._past_gaps += 1
        self.acknowledged = sent
        return True
