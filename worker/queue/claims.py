"""Which shards are free, dead or ours; and how one is taken."""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from worker.clock import Clock
from worker.errors import WorkerError
from worker.items import Json, Result
from worker.queue import layout, parts
from worker.queue.answers import DamagedQueueError, read_shard
from worker.queue.beat import Beat, Life
from worker.queue.holding import Holding, release
from worker.queue.lookout import Lookout
from worker.queue.protocol import Epoch, Watch, first_answers, killers, needs_care
from worker.queue.store import Store
from worker.queue.text import decode, encode

POLL_LEAST = 0.25
LOOKS_BETWEEN_LISTS = 4
HOLDERS_FEW = 4
"""whose beats are read one by one; of more, a list says first which have moved"""
MISSES_BEFORE_LIST = 2
MISSES_MOST = 12
"""in one take: then somebody else's turn comes, and ours again after a poll"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest claim of a shard."""

    epoch: int
    released: bool


class Free(NamedTuple):
    """A claim that may be tried."""

    shard: str
    epoch: int
    reason: str


class Claims:
    """One worker's view of the queue, and the shards it holds."""

    def __init__(
        self, store: Store, life: Life, clock: Clock, seed: int | None = None, *, of_jobs: bool = False
    ) -> None:
        self._pace = POLL_LEAST
        """between two looks, while we look ourselves"""
        self._rest = 0.0
        self.finished = False
        """every shard that the last look saw is done"""
        self.shards = self.shards_done = 0
        """as the last look saw them, for people"""
        self.ttl = life.ttl
        self._store = store
        self._life = life
        self._clock = clock
        self._random = random.Random(seed)
        self._of_jobs = of_jobs
        self._held: dict[str, int] = {}
        self._hands: dict[str, tuple[str, ...]] = {}
        self._done: set[str] = set()
        self._damaged: set[str] = set()
        """shards that nobody can read; the others are done all the same"""
        self._free: list[Free] = []
        self._contested: dict[str, int] = {}
        self._holders: dict[tuple[str, int], Mapping[str, Json]] = {}
        self._watches: dict[tuple[str, int], Watch] = {}
        self._beats: dict[str, tuple[str, Beat]] = {}
        self._lookout = Lookout(store, life.worker, life.ttl, clock, self._random)
        self._looks = 0
        self._unheard = False
        """no beat of ours is acknowledged: there is no use in trying other shards"""

    @property
    def poll(self) -> float:
        """How long to wait before the next take() when the last one gave nothing."""
        return self._rest or self._pace

    def rests(self) -> bool:
        """Whether somebody else looks out for us, so that there is no use in a look before `poll`."""
        if self._held:
            self._lookout.worked()
            return False
        calm = not self._free and self._longest_still < self.ttl / 2
        self._rest = self._lookout.rest(calm)
        return self._rest > 0

    def take(self) -> Holding | None:
        """The next shard, or None: nothing is free now; ask again after `poll` seconds."""
        if not self._free:
            self._look()
        misses = 0
        self._unheard = False
        while self._free and misses < MISSES_MOST and not self._unheard:
            won = self._win([self._free.pop()])
            if won:
                return won[0]
            misses += 1
            if misses % MISSES_BEFORE_LIST == 0 and not self._unheard:
                self._list()  # others were faster: much of what we took for free is theirs by now
        remaining = self._life.ttl - self._longest_still
        least = remaining if remaining > 0 else self._life.ttl  # a holder's own TTL may be longer
        self._pace = max(POLL_LEAST, min(self._pace * 1.5, self._life.ttl / 4, least))
        return None

    def take_many(self, most: int) -> list[Holding]:
        """Several that nobody has held yet, with one beat: where work is short the beats cost more than it.

        What somebody has held may kill, and is taken alone."""
        fresh: list[Free] = []
        while self._free and self._free[-1].epoch == 1 and len(fresh) < most:
            fresh.append(self._free.pop())
        if len(fresh) > 1:
            won = self._win(fresh)
            if 2 * len(won) < len(fresh) and not self._unheard:
                self._list()
            if won:
                return won
        else:
            self._free += fresh
        holding = self.take()
        return [holding] if holding else []

    # looking

    @property
    def _longest_still(self) -> float:
        return max((watch.still for watch in self._watches.values()), default=0.0)

    def _look(self) -> None:
        """Rule 12: while others work, their beats say whether anything can have changed."""
        self._looks += 1
        if self._contested and self._looks % LOOKS_BETWEEN_LISTS and (not self._expired() or self._free):
            return
        self._list()
        self._expired()

    def _list(self) -> None:
        self._free.clear()
        shards = {layout.shard_of(e.name) for e in self._store.list(layout.ITEMS)} - self._damaged
        newest: dict[str, Newest] = {}
        if not shards <= self._done:
            done, claims = self._store.at_once(self._store.list, (layout.DONE, layout.CLAIMS))
            self._done |= {layout.shard_of(e.name) for e in done}
            newest = newest_claims(e.name for e in claims)
        self.finished = shards <= self._done
        self.shards, self.shards_done = len(shards), len(self._done)
        self._contested = {}
        for shard in sorted(shards - self._done - self._held.keys()):
            claim = newest.get(shard)
            if claim is None:
                self._free.append(Free(shard, 1, "first"))
            elif claim.released:
                self._free.append(Free(shard, claim.epoch + 1, "released"))
            else:
                self._contested[shard] = claim.epoch
        self._watches = {key: one for key, one in self._watches.items() if key in self._contested.items()}
        self._random.shuffle(self._free)

    def _expired(self) -> bool:
        """Look at the beats behind contested claims; True: something moved that a list would show."""
        holders = {
            (shard, epoch): str(self._holder(shard, epoch).get("worker", ""))
            for shard, epoch in self._contested.items()
        }
        beats = self._read_beats(sorted({*holders.values()} - {self._life.worker}))
        moved = False
        for (shard, epoch), holder in holders.items():
            if holder == self._life.worker:  # a create of ours that we had given up for lost (rule 2)
                self._free_contested(shard, epoch, "own")
                continue
            watch = self._watches.setdefault((shard, epoch), Watch())
            beat = beats[holder]
            ttl = max(self._life.ttl, beat.ttl if beat else 0.0)
            if self._see(watch, beat, shard, epoch) >= ttl:
                # rule 3: the contents decide, not what a stat or a list says of them
                beat = self._read_beat(holder)
                if self._see(watch, beat, shard, epoch) >= ttl:
                    self._free_contested(shard, epoch, "expired")
            moved = moved or watch.state == "unlisted"
        return moved

    def _see(self, watch: Watch, beat: Beat | None, shard: str, epoch: int) -> float:
        listed = beat is not None and (shard, epoch) in beat.claims
        state = str(beat.counter) if beat and listed else "unlisted"
        return watch.see(state, self._clock.now(), self._pace)

    def _free_contested(self, shard: str, epoch: int, reason: str) -> None:
        del self._contested[shard]  # its watch stays: what is not tried now is not watched for another TTL
        self._free.append(Free(shard, epoch + 1, reason))

    def _holder(self, shard: str, epoch: int) -> Mapping[str, Json]:
        if (shard, epoch) not in self._holders:
            self._holders[shard, epoch] = self._read_json(layout.claim(shard, epoch))
        return self._holders[shard, epoch]

    def _read_beats(self, workers: Collection[str]) -> dict[str, Beat | None]:
        if len(workers) <= HOLDERS_FEW:
            return {worker: self._read_beat(worker) for worker in workers}
        versions = {e.name: e.version for e in self._store.list(layout.WORKERS)}
        return {worker: self._beat(worker, versions.get(layout.worker(worker))) for worker in workers}

    def _beat(self, worker: str, version: str | None) -> Beat | None:
        if version is None:
            return None
        known = self._beats.get(worker)
        if known is None or known[0] != version:
            beat = self._read_beat(worker)
            if beat is None:
                return None
            self._beats[worker] = known = (version, beat)
        return known[1]

    def _read_beat(self, worker: str) -> Beat | None:
        data = self._store.get(layout.worker(worker))
        return Beat.decode(data) if data else None

    def _read_json(self, name: str) -> Mapping[str, Json]:
        """An object that cannot be read is nobody's."""
        try:
            record = decode(self._store.get(name) or b"{}")
        except ValueError:
            return {}
        return record if isinstance(record, dict) else {}

    # taking

    def _win(self, wanted: Sequence[Free]) -> list[Holding]:
        """Rule 2: the beat lists a claim before its create is sent; having won, look for a commit first.

        Whatever goes wrong, the beat must not go on listing a claim that nobody works on; what was won before
        it is ours all the same."""
        self._lookout.alarm()
        past = [self._past(one.shard, one.epoch) if one.epoch > 2 else [] for one in wanted]
        self._held.update((one.shard, one.epoch) for one in wanted)
        self._say()
        won: dict[str, Holding] = {}
        try:
            self._unheard = not self._life.beat_now()
            if not self._unheard:
                pairs = list(zip(wanted, past, strict=True))
                found = self._store.at_once(lambda pair: self._try_create(*pair), pairs)
                won = {one.shard.name: one for one in found if isinstance(one, Holding)}
                for error in found:
                    if isinstance(error, WorkerError):
                        if not won:
                            raise error
                        log.warning("%d shards of %d are taken: %s", len(won), len(wanted), error)
                        break
        finally:
            for one in wanted:
                if one.shard not in won:
                    self._forget(one.shard)
        if won:
            self._pace = POLL_LEAST
            self._lookout.worked()
        return list(won.values())

    def _try_create(self, free: Free, past: list[Epoch]) -> Holding | WorkerError | None:
        """Several at once, each in a thread of its own: it only reads and creates."""
        try:
            return self._create(free, past)
        except WorkerError as error:
            return error

    def _create(self, free: Free, past: list[Epoch]) -> Holding | None:
        shard, epoch, reason = free
        careful = needs_care(past)
        try:
            if self._claim(shard, epoch, reason, careful):
                return self._open(shard, epoch, careful, past)
        except DamagedQueueError as error:
            log.error("%s", error)
            self._damaged.add(shard)
            release(self._store, shard, epoch, str(error))
        return None

    def _claim(self, shard: str, epoch: int, reason: str, careful: bool) -> bool:
        body = {
            "worker": self._life.worker,
            "nonce": secrets.token_hex(8),
            "reason": reason,
            "careful": careful,
        }
        return self._store.create(layout.claim(shard, epoch), encode(body), durable=self._of_jobs)

    def _open(self, shard: str, epoch: int, careful: bool, past: list[Epoch]) -> Holding | None:
        # nobody commits without a claim, and before the first there was none
        if epoch > 1 and self._store.head(layout.done(shard)):
            return None
        names, answers = self._inherit(shard) if epoch > 1 else ({}, {})
        return Holding(
            self._store,
            self._life,
            read_shard(self._store, shard),
            epoch,
            careful=careful,
            inherited=names,
            answers=answers,
            killers=killers(past, frozenset(answers), reported_only=self._of_jobs),
            hand=self._set_hands,
            forget=self._forget,
        )

    def _inherit(self, shard: str) -> tuple[dict[str, int], dict[str, Result]]:
        """Rule 5: the whole parts of earlier epochs with their bytes, in their order."""
        named = [(layout.part_of(e.name), e.name) for e in self._store.list(layout.parts(shard))]
        names, contents = {}, []
        for _, name in sorted((number, name) for number, name in named if number):
            data = self._store.get(name) or b""
            results = parts.unpack(data)
            if results is not None:
                names[name] = len(data)
                contents.append(results)
        return names, first_answers(contents)

    def _past(self, shard: str, epoch: int) -> list[Epoch]:
        """What became of the epochs before this one (rule 7)."""
        names = [e.name for e in self._store.list(layout.claims(shard))]
        released = {c[1] for c in map(layout.claim_of, names) if c and c[2]}
        numbers = [layout.part_of(e.name) for e in self._store.list(layout.parts(shard))]
        checkpoints = map(layout.checkpoint_of, (e.name for e in self._store.list(layout.jobs(shard))))
        bases = [self._read_json(layout.base(shard, n)).get("base") for n in range(1, epoch) if self._of_jobs]
        progressed = {place[0] for place in (*numbers, *checkpoints, *bases) if place}
        past = []
        for number in range(1, epoch):
            claim = self._holder(shard, number)
            release = self._read_json(layout.released(shard, number)) if number in released else {}
            hand = tuple(release.get("in_hand", ()))
            holder = str(claim.get("worker", ""))
            alive = holder == self._life.worker  # we let go of it ourselves
            if number not in released and not alive:
                beat = self._read_beat(holder)
                hand = beat.hand if beat and (shard, number) in beat.claims else ()
            past.append(
                Epoch(
                    number=number,
                    careful=bool(claim.get("careful")),
                    released=alive or number in released,
                    died=bool(release.get("died")),
                    hand=hand,
                    progressed=number in progressed,
                )
            )
        return past

    def _set_hands(self, hands: Mapping[str, tuple[str, ...]]) -> None:
        self._hands.update(hands)
        self._say()

    def _forget(self, shard: str) -> None:
        self._held.pop(shard, None)
        self._hands.pop(shard, None)
        self._say()

    def _say(self) -> None:
        hand = tuple(item for items in self._hands.values() for item in items)
        self._life.say(frozenset(self._held.items()), hand)


def newest_claims(names: Iterable[str]) -> dict[str, Newest]:
    """Rule 2: of a shard's claims only the newest epoch's `.released` frees it."""
    newest: dict[str, Newest] = {}
    for name in names:
        found = layout.claim_of(name)
        if not found:
            continue
        shard, epoch, released = found
        known = newest.get(shard)
        if known is None or epoch > known.epoch:
            newest[shard] = Newest(epoch, released)
        elif epoch == known.epoch and released:
            newest[shard] = Newest(epoch, True)
    return newest
