"""What `worker status` says: how far a queue is, who works on it, and how long it may still take."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from worker.clock import Clock
from worker.items import Json
from worker.queue import layout, recipe
from worker.queue.beat import ENDED, Beat
from worker.queue.census import Census, FailedItem
from worker.queue.claims import newest_claims
from worker.queue.eta import eta
from worker.queue.store import Store, at_once
from worker.queue.text import decode

LATE_TTLS = 1.75
"""behind its time a beat may be"""


@dataclass(frozen=True, slots=True)
class WorkerLine:
    id: str
    live: bool
    beat_age_s: float
    info: Mapping[str, Json]
    holds: bool
    """a shard that is not done"""

    @property
    def job(self) -> Mapping[str, Json]:
        """What the job in hand tells of itself."""
        return (self.info.get("job") or {}) if self.live and self.holds else {}

    @property
    def ahead(self) -> float:
        """How much of the job in hand is done: 0 to 1."""
        job = self.job
        return min(1.0, float(job.get("step", 0)) / float(job.get("steps") or math.inf))

    @property
    def rate(self) -> float:
        return float(self.info.get("rate_per_s") or 0.0) if self.live else 0.0

    def as_json(self) -> Json:
        return {
            "id": self.id,
            "device": self.info.get("device"),
            "item": self.info.get("item"),
            "rate_per_s": round(self.rate, 4),
            "beat_age_s": round(self.beat_age_s, 1),
            "live": self.live,
            "host": self.info.get("host"),
            "state": self.info.get("state"),
            "job": self.info.get("job"),
        }


@dataclass(frozen=True, slots=True)
class Progress:
    """One look at a queue."""

    task: str
    fingerprint: str
    shards: int
    done: int
    claimed: int
    total: int
    answered: int
    """failures included"""
    failed: int
    rate_per_s: float
    eta_s: tuple[int, int] | None
    workers: Sequence[WorkerLine]
    failures: Mapping[str, int]
    """kind → count"""
    examples: Sequence[FailedItem]
    inbox: Sequence[str]
    """files that are not cut into shards yet"""
    refused: Sequence[Mapping[str, Json]]
    superseded: int
    """items that count no longer, for their file was replaced and enqueued again"""

    @property
    def is_over(self) -> bool:
        return self.done == self.shards and not self.inbox

    def as_json(self) -> Json:
        free = self.shards - self.done - self.claimed
        return {
            "shards": {"total": self.shards, "done": self.done, "claimed": self.claimed, "free": free},
            "items": {"total": self.total, "answered": self.answered, "failed": self.failed},
            "rate_per_s": round(self.rate_per_s, 4),
            "eta_s": None if self.eta_s is None else list(self.eta_s),
            "workers": [worker.as_json() for worker in self.workers],
            "task": self.task,
            "fingerprint": self.fingerprint,
            "failures": {
                "kinds": dict(self.failures),
                "examples": [{"input": f.input, "kind": f.kind, "message": f.message} for f in self.examples],
            },
            "inbox": list(self.inbox),
            "refused": [dict(line) for line in self.refused],
            "superseded": self.superseded,
        }


@dataclass(frozen=True, slots=True)
class _Seen:
    version: str
    beat: Beat
    moved: float | None
    """when, by our own clock, it changed before our eyes"""


class Watcher:
    """Looks at a queue, again and again if asked; what cannot change is read once."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._run = recipe.require(store)
        self._census = Census(store)
        self._beats: dict[str, _Seen] = {}
        self._taken: dict[str, Json] = {}
        self._cut: dict[str, str] = {}

    def look(self) -> Progress:
        numbers = self._census.look()
        open_shards = numbers.shards - numbers.done
        newest = newest_claims(e.name for e in self._store.list(layout.CLAIMS)) if open_shards else {}
        held = {
            (shard, claim.epoch)
            for shard, claim in newest.items()
            if shard in open_shards and not claim.released
        }
        workers = self._workers(held)
        refused = self._refused()
        rates = [worker.rate for worker in workers]
        return Progress(
            task=self._run.recipe.task,
            fingerprint=self._run.fingerprint,
            shards=len(numbers.shards),
            done=len(numbers.done),
            claimed=len(held),
            total=numbers.total,
            answered=numbers.answered,
            failed=sum(numbers.failures.values()),
            rate_per_s=math.fsum(rates),
            eta_s=eta(
                numbers.left - math.fsum(worker.ahead for worker in workers),
                rates,
                numbers.seconds,
                max((layout.count_of(shard) or 1 for shard in open_shards), default=1),
                max((worker.job.get("eta_s", 0.0) for worker in workers), default=0.0),
            ),
            workers=workers,
            failures=numbers.failures,
            examples=numbers.examples,
            inbox=self._waiting(),
            refused=refused,
            superseded=numbers.superseded,
        )

    def _workers(self, held: set[tuple[str, int]]) -> list[WorkerLine]:
        """Those that live, and the dead whose claim nobody has taken over yet."""
        lines = []
        for entry in self._store.list(layout.WORKERS):
            seen = self._see(entry.name, entry.version)
            if seen is None:
                continue
            # Clocks of two machines differ: what moved before our eyes lives, whatever time it writes.
            age = max(0.0, self._clock.wall() - seen.beat.at)
            if seen.moved is not None:
                age = self._clock.now() - seen.moved
            live = age < seen.beat.pause + LATE_TTLS * seen.beat.ttl and seen.beat.info.get("state") != ENDED
            holds = bool(seen.beat.claims & held)
            if live or holds:
                lines.append(WorkerLine(seen.beat.worker, live, age, seen.beat.info, holds))
        return lines

    def _see(self, name: str, version: str) -> _Seen | None:
        known = self._beats.get(name)
        if known is None or known.version != version:
            data = self._store.get(name)
            beat = Beat.decode(data) if data else None
            if beat is None:
                return None
            moved = self._clock.now() if known else None
            self._beats[name] = known = _Seen(version, beat, moved)
        return known

    def _refused(self) -> list[Mapping[str, Json]]:
        new = [e.name for e in self._store.list(layout.TAKEN) if e.name not in self._taken]
        self._taken |= zip(new, read_taken(self._store, new), strict=True)
        return refused_lines(self._taken.values())

    def _waiting(self) -> list[str]:
        waiting = []
        for entry in self._store.list(layout.INBOX):
            if not entry.name.endswith(".jsonl") or self._cut.get(entry.name) == entry.version:
                continue
            if layout.taken(entry.name, self._store.get(entry.name) or b"") in self._taken:
                self._cut[entry.name] = entry.version
            else:
                waiting.append(entry.name)
        return waiting


def read_taken(store: Store, names: Sequence[str]) -> list[Json]:
    """Records of inbox files that were cut."""
    return [_record(data) for data in at_once(store.get, names)]


def _record(data: bytes | None) -> Json:
    """A file of somebody else's among the records says nothing."""
    try:
        record = decode(data or b"{}")
    except ValueError:
        record = None
    return record if isinstance(record, dict) and "file" in record else {"file": ""}


def refused_lines(taken: Collection[Json]) -> list[Mapping[str, Json]]:
    """The lines that could not be read, in one order. A file that was corrected, or that was still growing
    when it was cut first, counts as it was cut last."""
    newest: dict[str, int] = {}
    for record in taken:
        newest[record["file"]] = max(record.get("turn", 0), newest.get(record["file"], 0))
    lines = [
        {"file": record["file"], "line": line["line"], "why": line["why"]}
        for record in taken
        if record.get("turn", 0) == newest[record["file"]]
        for line in record.get("refused", ())
    ]
    return sorted(lines, key=lambda line: (line["file"], line["line"], line["why"]))
