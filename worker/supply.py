"""What the device needs next: shards in hand, their items on the way through the children, and samples.

It goes on while a batch is on the device, and stays no further ahead than the device needs: others are
hungry, and memory is not endless.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import Future
from dataclasses import dataclass

from worker.appetite import Appetite
from worker.clerk import Clerk
from worker.items import Answer, Failure, Item, Result
from worker.looking import Looking
from worker.pool import Prepared, Preparing
from worker.queue.holding import Holding, commit

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Hand:
    """A shard in hand: what is not yet prepared, and what is not yet answered."""

    holding: Holding
    unsent: deque[Item]
    open: set[str]


def is_settled(one: Prepared) -> bool:
    """It needs no device: it was answered where it was prepared, or has failed there."""
    return isinstance(one.outcome, Answer | Failure)


class Supply:
    def __init__(
        self, looking: Looking, pool: Preparing, clerk: Clerk, appetite: Appetite, ahead: int
    ) -> None:
        """`ahead`: so many samples at least may be prepared ahead."""
        self.hands: list[Hand] = []
        """an item that stands in several is answered once for all"""
        self.careful: Holding | None = None
        """a shard that killed its workers: it waits until nothing else is in hand"""
        self.together = 1
        """so many shards are taken at a time"""
        self._looking, self._pool, self._clerk = looking, pool, clerk
        self._appetite = appetite
        self._least_ahead = ahead
        self._sent: set[str] = set()
        self._ready: deque[Prepared] = deque()
        """samples for the device"""
        self._taking: Future[list[Holding]] | None = None
        self._asked_at = self._take_at = 0.0
        self._committed = False

    @property
    def in_hand(self) -> bool:
        return bool(self.hands or self.careful)

    @property
    def taking(self) -> bool:
        """A shard may be in hand in a moment."""
        return self._taking is not None

    @property
    def unsent(self) -> int:
        return sum(len(hand.unsent) for hand in self.hands)

    @property
    def nap(self) -> float:
        """Seconds until the next look at the queue, where nothing is in hand."""
        return max(0.0, self._take_at - time.monotonic())

    def go_on(self, batch: int, on_device: int, busy_s: float) -> None:
        """on_device: samples that are there, for busy_s by now."""
        self._drop_what_is_not_ours()
        self._take()
        waiting = self.unsent + self._pool.under_way + len(self._ready)
        if self._may_ask and self._appetite.wants(waiting, batch, on_device, busy_s):
            self._asked_at = time.monotonic()
            self._taking = self._clerk.start(self._looking.take, self.together)
            self._taking.add_done_callback(lambda _: self._pool.wake())
        self._feed(max(self._least_ahead, 2 * batch))

    # claim

    @property
    def _may_ask(self) -> bool:
        return not self._taking and not self.careful and time.monotonic() >= self._take_at

    def _take(self) -> None:
        """What was asked for, once the store has answered."""
        self._clerk.check()
        if self._taking and self._taking.done():
            holdings = self._taking.result()
            self._taking = None
            self.taken(holdings)
            if holdings:
                self._appetite.claimed(time.monotonic() - self._asked_at)
            # what was committed since that look may have been the last shard
            again = bool(holdings) or self._committed
            self._take_at = 0.0 if again else time.monotonic() + self._looking.poll
            self._committed = False

    def taken(self, holdings: Sequence[Holding]) -> None:
        """All are in hand before the clerk is asked: it may raise what went wrong with an earlier write."""
        answered: list[Holding] = []
        for holding in holdings:
            if holding.careful:
                self.careful = holding
            elif left := holding.left():
                self.hands.append(Hand(holding, deque(left), {item.id for item in left}))
            else:
                answered.append(holding)
        if answered:
            self._clerk.later(commit, answered)

    def look_again(self) -> None:
        """Something is committed: it may have been the last shard."""
        self._committed = True
        self._take_at = 0.0

    # prepare

    def _feed(self, ahead: int) -> None:
        """Feed the children, never further ahead than the device needs."""
        for hand in self.hands:
            while hand.unsent and self._pool.under_way + len(self._ready) < ahead:
                item = hand.unsent.popleft()
                if item.id in hand.open and item.id not in self._sent:
                    self._sent.add(item.id)
                    self._pool.submit(item)

    def _drop_what_is_not_ours(self) -> None:
        """Rule 4: after a silence of ours nothing new is begun on a shard that somebody else has taken."""
        for hand in self.hands[:]:
            if hand.holding.doubtful and not self._clerk.now(hand.holding.ours):
                log.warning(
                    "shard %s was taken over while this worker was not heard", hand.holding.shard.name
                )
                self.hands.remove(hand)
                self._clerk.now(hand.holding.drop)
                self._recall()

    def _recall(self) -> None:
        """Take back what is under way; what is still ours is prepared again."""
        for item in self._pool.drop():
            self._sent.discard(item.id)
            for hand in self.hands:
                if item.id in hand.open:
                    hand.unsent.appendleft(item)
        kept = [one for one in self._ready if any(one.item.id in hand.open for hand in self.hands)]
        self._sent.difference_update({one.item.id for one in self._ready} - {one.item.id for one in kept})
        self._ready = deque(kept)

    def hear(self, timeout: float) -> list[Prepared]:
        """What is settled of what the children have finished; samples are kept for the device."""
        prepared = self._pool.poll(timeout)
        for one in prepared:
            self._appetite.prepared(one.seconds, needs_device=not is_settled(one))
        self._ready.extend(one for one in prepared if not is_settled(one))
        return [one for one in prepared if is_settled(one)]

    # answer

    def samples(self, batch: int, *, due: bool) -> list[Prepared]:
        """A batch for the device, or several that take no time; less than one where there is no hope that it
        fills, or it would take too long."""
        if len(self._ready) < batch and self._pool.under_way and not due:
            return []
        most = batch * self._appetite.batches(batch)
        return [self._ready.popleft() for _ in range(min(most, len(self._ready)))]

    def of(self, items: Mapping[str, Item]) -> list[tuple[Holding, list[Item]]]:
        """By shard."""
        return [(hand.holding, [items[i] for i in items.keys() & hand.open]) for hand in self.hands]

    def answered(self, results: Sequence[Result], final: Mapping[str, Result]) -> list[Holding]:
        """Which shards are full now. What is not final is prepared again."""
        self._sent.difference_update(result.item for result in results)
        self._again({result.item for result in results} - final.keys())
        filled: list[Holding] = []
        for hand in self.hands:
            if mine := final.keys() & hand.open:
                hand.open -= mine
                self._clerk.later(hand.holding.add, [final[item] for item in mine])
                if not hand.open:
                    filled.append(hand.holding)
        self.hands = [hand for hand in self.hands if hand.open]
        return filled

    def _again(self, ids: Set[str]) -> None:
        for hand in self.hands:
            hand.unsent.extend(item for item in hand.holding.shard.items if item.id in ids)

    # the end

    def give_back(self) -> list[Holding]:
        """All that is in hand, and what was just being taken."""
        self._pool.drop()
        if self._taking:
            self.taken(self._taking.result())
        return self.holdings

    @property
    def holdings(self) -> list[Holding]:
        return [hand.holding for hand in self.hands] + ([self.careful] if self.careful else [])

    def first_open(self) -> str:
        """The first input in hand that has no answer yet, for people."""
        items = (item for hand in self.hands for item in hand.holding.shard.items if item.id in hand.open)
        return next((item.input for item in items), "")
