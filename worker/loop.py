"""The way of one item: claim → prepare → answer → parts → done.

    shards in the queue
      │ claim     the clerk takes a shard, and the next one before this one is empty
      ▼
    items         of one or two shards, in hand
      │ prepare   child processes make samples, as many ahead as the device needs
      ▼
    samples       a bounded heap of them
      │ answer    one batch at a time, on the device
      ▼
    results       handed to the clerk
      │ parts     written behind our back every few seconds, write-once
      ▼ done      the shard's commit

One thread goes round this way; the clerk's thread does all that waits for the store. A shard whose holders
keep dying goes the careful way: one item at a time, named in a beat before it is begun.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence, Set
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from worker.appetite import Appetite
from worker.blame import failure_of
from worker.careful import go_carefully
from worker.clerk import Clerk
from worker.counts import Counts
from worker.errors import WorkerError
from worker.faults import Faults
from worker.items import Answer, Failure, Item, Json, Result
from worker.looking import Looking
from worker.pool import Prepared, Preparing
from worker.queue.beat import ENDED, IDLE
from worker.queue.holding import Holding, begin, commit
from worker.queue.parts import unwritable
from worker.tasks.task import MapTask

TOGETHER_S = 2.0
"""so many shards as are done in less are taken and committed together: one beat, and one wait for a disk"""
TOGETHER_MOST = 32
TICK_S = 1.0

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Hand:
    """A shard in hand: what is not yet prepared, and what is not yet answered."""

    holding: Holding
    unsent: deque[Item]
    open: set[str]


class Loop:
    share_of_time = 0.6
    """of what is left after a stop: for the batch in hand; the rest is for handing back"""

    def __init__(
        self,
        task: MapTask[Any, Any],
        looking: Looking,
        pool: Preparing,
        tick: Callable[[dict[str, Json]], None],
        *,
        worker: str,
        batch: int | None,
        ahead: int,
        flush_s: float,
    ) -> None:
        """`batch`: None is what the task likes, once it is open."""
        self.counts = Counts()
        self._task = task
        self._file = inspect.getfile(type(task))
        self._looking = looking
        self._pool = pool
        self._say = tick
        self._worker = worker
        self._wanted_batch, self._least_ahead = batch, ahead
        self._measure()
        self._flush_s = flush_s
        self._clerk = Clerk(self._tick)
        self._hands: list[Hand] = []
        """one or two, more where they are short; an item that stands in several is answered once for all"""
        self._full: list[Holding] = []
        """answered, and about to be committed together"""
        self._together = 1
        """so many shards are taken and committed at a time"""
        self._full_at = time.monotonic()
        self._sent: set[str] = set()
        self._careful: Holding | None = None
        self._taking: Future[list[Holding]] | None = None
        self._take_at = 0.0
        self._committed = False
        self._ready: deque[Prepared] = deque()
        """samples for the device"""
        self._flushed = self._ticked = self._answered = time.monotonic()
        self._faults = Faults()
        self._stop = ""
        self._handing_back = threading.Lock()
        self.handed_back = threading.Event()

    def run(self) -> None:
        """Until there is nothing left to do, or until stop()."""
        self._measure()
        while self._going():
            self._claim()
            self._prepare()
            batch = self._samples()
            results = self._answer(batch)
            if self._handing_back.locked():
                return  # the time was up while the batch was on the device: it is dropped
            self._write(results)
        rest = [one for one in self._pool.finish() if one.is_settled]
        if self._handing_back.locked():
            return
        self._write(self._results(rest))
        self.hand_back()

    def _measure(self) -> None:
        self._batch = self._wanted_batch or self._task.batch
        self._ahead = max(self._least_ahead, 2 * self._batch)
        self._appetite = Appetite(self._batch, self._ahead, self._task.seconds_per_item)

    def stop(self, reason: str, _: float = 0.0) -> None:
        """From any thread: no new work; what is finished is written, what is not is handed back."""
        self._stop = reason
        self._task.stop()
        self._pool.wake()

    def give_up(self) -> None:
        """Nothing can be handed back to a store that is away; what we hold is free after the TTL."""
        self._clerk.give_up()

    def hand_back(self) -> None:
        """Finished results are written and shards released, once, by whichever thread comes first."""
        if not self._handing_back.acquire(blocking=False):
            return
        try:
            self._pool.drop()
            if self._taking:
                self._taken(self._taking.result())
            self._commit()
            self._clerk.drain()
            for holding in self._holdings():
                self._clerk.now(holding.release, self._stop or "the worker ends")
        finally:
            self._clerk.close()
            self._tell(ENDED)
            self.handed_back.set()

    # claim

    def _claim(self) -> None:
        """The next shard, asked for before this one is empty, taken when the store has answered."""
        self._clerk.check()
        if self._taking and self._taking.done():
            holdings = self._taking.result()
            self._taking = None
            self._taken(holdings)
            # what was committed since that look may have been the last shard
            again = bool(holdings) or self._committed
            self._take_at = 0.0 if again else time.monotonic() + self._looking.poll
            self._committed = False
        unsent = sum(len(hand.unsent) for hand in self._hands)
        waiting = unsent + self._pool.under_way + len(self._ready)
        wanted = self._appetite.wants(len(self._hands), unsent, waiting)
        if wanted and not self._taking and not self._careful and time.monotonic() >= self._take_at:
            self._taking = self._clerk.start(self._looking.take, self._together)
            self._taking.add_done_callback(lambda _: self._pool.wake())

    def _taken(self, holdings: Sequence[Holding]) -> None:
        """All are in hand before the clerk is asked: it may raise what went wrong with an earlier write."""
        answered: list[Holding] = []
        for holding in holdings:
            if holding.careful:
                self._careful = holding
            elif left := holding.left():
                self._hands.append(Hand(holding, deque(left), {item.id for item in left}))
            else:
                answered.append(holding)
        if answered:
            self._clerk.later(commit, answered)

    # prepare

    def _prepare(self) -> None:
        """Feed the children, never further ahead than the device needs."""
        self._drop_what_is_not_ours()
        if self._careful and not self._hands:
            go_carefully(self._careful, self._clerk, self._alone, lambda: self._stop)
            self._careful = None
        for hand in self._hands:
            while hand.unsent and self._pool.under_way + len(self._ready) < self._ahead:
                item = hand.unsent.popleft()
                if item.id in hand.open and item.id not in self._sent:
                    self._sent.add(item.id)
                    self._pool.submit(item)

    def _drop_what_is_not_ours(self) -> None:
        """Rule 4: after a silence of ours nothing new is begun on a shard that somebody else has taken."""
        for hand in self._hands[:]:
            if hand.holding.doubtful and not self._clerk.now(hand.holding.ours):
                log.warning(
                    "shard %s was taken over while this worker was not heard", hand.holding.shard.name
                )
                self._hands.remove(hand)
                self._clerk.now(hand.holding.drop)
                self._recall()

    def _recall(self) -> None:
        """Take back what is under way; what is still ours is prepared again."""
        for item in self._pool.drop():
            self._sent.discard(item.id)
            for hand in self._hands:
                if item.id in hand.open:
                    hand.unsent.appendleft(item)
        kept = [one for one in self._ready if any(one.item.id in hand.open for hand in self._hands)]
        self._sent.difference_update({one.item.id for one in self._ready} - {one.item.id for one in kept})
        self._ready = deque(kept)

    # answer

    def _samples(self) -> list[Prepared]:
        """A batch of samples, waited for while there is hope that it fills, behind what needs no device."""
        prepared: list[Prepared] = []
        if len(self._ready) < self._batch and (self._pool.under_way or not self._ready):
            begun = time.monotonic()
            starved = bool(self._pool.under_way)
            prepared = self._pool.poll(1.0 if starved or self._taking else self._nap())
            self.counts.waited_s += (time.monotonic() - begun) * starved
        elif self._pool.under_way:
            prepared = self._pool.poll(0.0)
        settled = [one for one in prepared if one.is_settled]
        self._ready.extend(one for one in prepared if not one.is_settled)
        is_due = time.monotonic() - self._answered >= self._flush_s  # samples are not kept waiting
        if len(self._ready) < self._batch and self._pool.under_way and not is_due:
            return settled
        return settled + [self._ready.popleft() for _ in range(min(self._batch, len(self._ready)))]

    def _nap(self) -> float:
        """Nothing is under way and nothing is ready: until the next look at the queue, if there is one."""
        if not self._looking.goes_on(busy=False):
            return 0.0
        return max(0.0, min(1.0, self._take_at - time.monotonic()))

    def _answer(self, batch: Sequence[Prepared]) -> list[Result]:
        """One batch on the device."""
        if not batch:
            return []
        begun = {one.item.id: one.item for one in batch if not one.is_settled}
        mine = [(hand.holding, [begun[i] for i in begun.keys() & hand.open]) for hand in self._hands]
        self._clerk.later(begin, mine)
        results = self._results(batch)
        if begun:
            self._answered = time.monotonic()
        return results

    def _results(self, batch: Sequence[Prepared]) -> list[Result]:
        samples = [one for one in batch if not one.is_settled]
        begun = time.monotonic()
        with self._pool.going_on() if samples else nullcontext():
            found = self._outcomes(samples)
        outcomes = dict(zip((one.item.id for one in samples), found, strict=True))
        spent = time.monotonic() - begun
        each = spent / max(len(samples), 1)
        for one in samples:
            self._appetite.prepared(one.seconds)
        if samples:
            self.counts.uses_device = True
            self._appetite.answered(each)
        return [
            self._result(one, outcomes[one.item.id], each)
            if one.item.id in outcomes
            else self._result(one, one.outcome, 0.0)
            for one in batch
        ]

    def _outcomes(self, samples: Sequence[Prepared]) -> list[Answer | Failure]:
        """The task's answers; when a batch fails as a whole each of its items is tried alone."""
        if not samples:
            return []
        try:
            outcomes = list(self._task.answer([one.outcome for one in samples]))
            if len(outcomes) != len(samples):
                raise TypeError(f"{len(outcomes)} answers to {len(samples)} samples")
            for outcome in outcomes:
                if not isinstance(outcome, Answer | Failure):
                    raise TypeError(f"answer() gave a {type(outcome).__name__}, no Answer and no Failure")
            return outcomes
        except WorkerError as error:  # no item's fault, and none fares better alone
            if self._stop:
                return [Failure("device", str(error))] * len(samples)
            raise
        except Exception as error:
            log.debug("answer failed", exc_info=True)
            if len(samples) > 1:
                return [outcome for one in samples for outcome in self._one_by_one(one)]
            return [failure_of(error, self._file)]

    def _one_by_one(self, one: Prepared) -> list[Answer | Failure]:
        self._tick()  # each may take as long as the batch
        return self._outcomes([one])

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
        self._sent.difference_update(result.item for result in results)
        final, ill = self._faults.judge(results, stopping=bool(self._stop))
        self._again({result.item for result in results} - {result.item for result in final})
        filled: list[Holding] = []
        answered = {result.item: result for result in final}
        for hand in self._hands:
            if mine := answered.keys() & hand.open:
                hand.open -= mine
                self._clerk.later(hand.holding.add, [answered[item] for item in mine])
                if not hand.open:
                    filled.append(hand.holding)
        if filled:
            self._fill(filled, now)
        self._hands = [hand for hand in self._hands if hand.open]
        for result in final:
            self.counts.add(result)
        is_due = now - self._flushed >= self._flush_s
        if is_due or len(self._full) >= self._together or not any(hand.unsent for hand in self._hands):
            self._commit()
        if is_due:
            self._flushed = now
            for hand in self._hands:
                self._clerk.later(hand.holding.flush)
        self._tick()
        if ill:
            raise ill

    def _fill(self, filled: Sequence[Holding], now: float) -> None:
        """Shards are answered. Where that takes no time, more of them are taken and committed at once."""
        self._full += filled
        each = max((now - self._full_at) / len(filled), 1e-9)
        self._together = max(1, min(2 * self._together, int(TOGETHER_S / each), TOGETHER_MOST))
        self._full_at = now

    def _commit(self) -> None:
        full, self._full = self._full, []  # first: another thread may be handing back
        if full:
            self._committed = True
            self._take_at = 0.0  # that may have been the last shard
            self._clerk.later(commit, full)

    def _again(self, ids: Set[str]) -> None:
        for hand in self._hands:
            hand.unsent.extend(item for item in hand.holding.shard.items if item.id in ids)

    def _alone(self, item: Item) -> Result | None:
        """One item all the way; None: stopped meanwhile."""
        while not self._stop:
            self._pool.submit(item)
            prepared: list[Prepared] = []
            while not prepared and not self._stop:
                prepared = self._pool.poll(0.5)
                self._tick()
            for result in self._results([one for one in prepared if one.item.id == item.id]):
                if self._faults.is_final(result):
                    self.counts.add(result)
                    return result
        return None

    # going on

    def _going(self) -> bool:
        if self._stop:
            return False
        if self._hands or self._careful:
            self._looking.worked()
            return True
        return self._looking.goes_on(busy=bool(self._taking))

    def _holdings(self) -> list[Holding]:
        return [hand.holding for hand in self._hands] + ([self._careful] if self._careful else [])

    def _tick(self) -> None:
        if time.monotonic() - self._ticked >= TICK_S:
            self._tell("working" if self._hands or self._careful else IDLE)

    def _tell(self, state: str) -> None:
        self._ticked = time.monotonic()
        info = {**self.counts.info(state, self._current()), **self._looking.info()}
        self._say(info | ({"spent": dict(spent)} if (spent := self._task.spent()) else {}))

    def _current(self) -> str:
        """The first input in hand that has no answer yet, for people."""
        items = (item for hand in self._hands for item in hand.holding.shard.items if item.id in hand.open)
        return next((item.input for item in items), "")
