"""The way of one item: claim → prepare → answer → parts → done.

    shards in the queue
      │ claim     the clerk takes a shard, and the next one before the device would wait
      ▼
    items         in hand (supply.py)
      │ prepare   child processes make samples, as many ahead as the device needs
      ▼
    samples       a bounded heap of them
      │ answer    one batch at a time, in the device's thread
      ▼
    results       handed to the clerk
      │ parts     written behind our back every few seconds, write-once
      ▼ done      the shard's commit

One thread goes round this way, and never waits for the device alone; the clerk's thread does all that waits
for the store. A shard whose holders keep dying goes the careful way: one item at a time, named in a beat
before it is begun.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from worker.appetite import Appetite
from worker.careful import go_carefully
from worker.clerk import Clerk
from worker.counts import Counts
from worker.device import Batch, Device
from worker.faults import Faults
from worker.items import Answer, Failure, Item, Json, Result
from worker.looking import Looking
from worker.pool import Prepared, Preparing
from worker.queue.beat import ENDED, IDLE
from worker.queue.holding import Holding, begin, commit
from worker.queue.parts import unwritable
from worker.supply import Supply

TOGETHER_S = 2.0
"""so many shards as are done in less are taken and committed together: one beat, and one wait for a disk"""
TOGETHER_MOST = 32
TICK_S = 1.0

log = logging.getLogger(__name__)


class Loop:
    share_of_time = 0.6
    """of what is left after a stop: for the batch in hand; the rest is for handing back"""

    def __init__(
        self,
        device: Device,
        looking: Looking,
        pool: Preparing,
        tick: Callable[[dict[str, Json]], None],
        *,
        worker: str,
        ahead: int,
        flush_s: float,
    ) -> None:
        """`ahead`: so many samples may be prepared ahead at least; two a child."""
        self.counts = Counts()
        self._device = device
        self._looking = looking
        self._pool = pool
        self._say = tick
        self._worker = worker
        self._flush_s = flush_s
        self._clerk = Clerk(self._tick)
        self._appetite = Appetite(ahead / 2, device.task.seconds_per_item)
        self._supply = Supply(looking, pool, self._clerk, self._appetite, ahead)
        self._full: list[Holding] = []
        """answered, and about to be committed together"""
        self._full_at = time.monotonic()
        self._flushed = self._ticked = self._answered = self._free_since = time.monotonic()
        self._faults = Faults()
        self._stop = ""
        self._handing_back = threading.Lock()
        self.handed_back = threading.Event()

    def run(self) -> None:
        """Until there is nothing left to do, or until stop()."""
        # what opening took is no reason for a small batch, and no waiting
        self._answered = self._free_since = time.monotonic()
        while self._goes_on():
            settled = self._hear()
            answered = self._device.collect()
            if self._handing_back.locked():  # the time was up: the batch on the device is dropped
                self.handed_back.wait()
                return
            self._write([self._result(one, one.outcome, 0.0) for one in settled] + self._results(answered))
            if not self._stop:
                self._supply.go_on(self._device.batch, self._device.samples, self._device.busy_s)
                self._go_carefully()
                self._answer()
        self.hand_back()

    def stop(self, reason: str, _: float = 0.0) -> None:
        """From any thread: no new work; what is finished is written, what is not is handed back."""
        self._stop = reason
        self._device.stop()
        self._pool.wake()

    def finish(self, reason: str, within: float) -> None:
        """As stop(), but what is on the device may be answered, if that is done in time."""
        self._stop = reason
        self._pool.wake()
        late = threading.Timer(within * self.share_of_time, self._device.stop)
        late.daemon = True
        late.start()

    def give_up(self) -> None:
        """Nothing can be handed back to a store that is away; what we hold is free after the TTL."""
        self._clerk.give_up()

    def hand_back(self) -> None:
        """Finished results are written and shards released, once, by whichever thread comes first."""
        if not self._handing_back.acquire(blocking=False):
            return
        try:
            holdings = self._supply.give_back()
            self._commit()
            self._clerk.drain()
            for holding in holdings:
                self._clerk.now(holding.release, self._stop or "the worker ends")
        finally:
            self._clerk.close()
            self._tell(ENDED)
            self.handed_back.set()

    # prepare

    def _hear(self) -> list[Prepared]:
        """Waits until a child, the device or the clerk has something for us."""
        return self._supply.hear(self._patience())

    def _patience(self) -> float:
        """All that is under way rings when it ends."""
        if self._device.is_full or self._pool.under_way or self._supply.taking or self._is_last_there:
            return 1.0
        if self._supply.in_hand:
            return 0.0
        return self._nap()

    @property
    def _is_last_there(self) -> bool:
        """The device has room, and there is nothing more to begin."""
        is_all = not self._supply.unsent and not self._pool.under_way
        return self._device.busy and (is_all or bool(self._stop))

    def _nap(self) -> float:
        """Nothing is in hand: until the next look at the queue, if there is one."""
        return min(1.0, self._supply.nap) if self._looking.goes_on(busy=False) else 0.0

    # answer

    def _answer(self) -> None:
        """The next samples, while there is room for them."""
        self._count_waiting()
        is_due = time.monotonic() - self._answered >= self._flush_s  # samples are not kept waiting
        while not self._device.is_full and (samples := self._supply.samples(self._device.takes, due=is_due)):
            there = {one.item.id: one.item for one in (*self._device.hand, *samples)}
            self._clerk.later(begin, self._supply.of(there))
            self._device.begin(samples, self._pool.wake)

    def _count_waiting(self) -> None:
        """The device has room, and there is, or is just coming, what it could answer."""
        if self._device.is_full or (self._supply.taking and not self._supply.in_hand):
            return  # not now, or nobody knows yet whether there was anything to take
        now = time.monotonic()
        if self._supply.in_hand and not self._is_last_there:
            self.counts.waited_s += now - max(self._free_since, self._device.free_since)
        self._free_since = now

    def _results(self, batches: Sequence[Batch]) -> list[Result]:
        if batches:
            self._answered = time.monotonic()
            self.counts.uses_device = True
        for batch in batches:
            self._appetite.answered(batch.each / self._device.at_once)
        return [
            self._result(one, outcome, batch.each)
            for batch in batches
            for one, outcome in zip(batch.samples, batch.outcomes, strict=True)
        ]

    def _result(self, one: Prepared, outcome: object, spent: float) -> Result:
        assert isinstance(outcome, Answer | Failure)
        run = {"at": int(time.time()), "seconds": round(one.seconds + spent, 3), "worker": self._worker}
        result = Result(one.item.id, one.item.input, outcome, run=run)
        if result.ok and (why := unwritable(result)):
            return replace(result, outcome=Failure("error", f"its answer cannot be written: {why}"))
        return result

    # parts, done

    def _write(self, results: Sequence[Result]) -> None:
        """Hand results to the clerk: parts are written behind, a complete shard is committed."""
        now = time.monotonic()
        final, ill = self._faults.judge(results, stopping=bool(self._stop))
        if filled := self._supply.answered(results, {result.item: result for result in final}):
            self._fill(filled, now)
        for result in final:
            self.counts.add(result)
        is_due = now - self._flushed >= self._flush_s
        if is_due or len(self._full) >= self._supply.together or not self._supply.unsent:
            self._commit()
        if is_due:
            self._flushed = now
            for hand in self._supply.hands:
                self._clerk.later(hand.holding.flush)
        self._tick()
        if ill:
            raise ill

    def _fill(self, filled: Sequence[Holding], now: float) -> None:
        """Shards are answered. Where that takes no time, more of them are taken and committed at once."""
        self._full += filled
        each = max((now - self._full_at) / len(filled), 1e-9)
        together = min(2 * self._supply.together, int(TOGETHER_S / each), TOGETHER_MOST)
        self._supply.together = max(1, together)
        self._full_at = now

    def _commit(self) -> None:
        full, self._full = self._full, []  # first: another thread may be handing back
        if full:
            self._supply.look_again()
            self._clerk.later(commit, full)

    # carefully

    def _go_carefully(self) -> None:
        """Once nothing else is in hand."""
        if self._supply.careful and not self._supply.hands and not self._device.busy:
            go_carefully(self._supply.careful, self._clerk, self._alone, lambda: self._stop)
            self._supply.careful = None

    def _alone(self, item: Item) -> Result | None:
        """One item all the way; None: stopped meanwhile."""
        while not self._stop:
            result = self._once(item)
            if result and self._faults.is_final(result):
                self.counts.add(result)
                return result
        return None

    def _once(self, item: Item) -> Result | None:
        self._pool.submit(item)
        while not self._stop or self._device.busy:
            settled = [one for one in self._supply.hear(0.5) if one.item.id == item.id]
            if settled:
                return self._result(settled[0], settled[0].outcome, 0.0)
            if results := self._results(self._device.collect()):
                return results[0]
            samples = [] if self._device.busy else self._supply.samples(1, due=False)
            if samples and samples[0].item.id == item.id:
                self._count_waiting()
                self._device.begin(samples, self._pool.wake)
            self._tick()
        return None

    # going on

    def _goes_on(self) -> bool:
        if self._stop or self._device.busy:
            return self._device.busy
        if self._supply.in_hand:
            self._looking.worked()
            return True
        return self._looking.goes_on(busy=self._supply.taking)

    def _tick(self) -> None:
        """Not while the device may hang: who is silent for too long is killed, and loses its shards."""
        if time.monotonic() - self._ticked >= TICK_S and not self._device.is_silent(self._ticked):
            self._tell("working" if self._supply.in_hand else IDLE)

    def _tell(self, state: str) -> None:
        self._ticked = time.monotonic()
        info = {**self.counts.info(state, self._supply.first_open()), **self._looking.info()}
        self._say(info | ({"spent": dict(spent)} if (spent := self._device.spent()) else {}))
