"""Who holds which card, decided over records that survive their process and that several processes may share.

A turn is one transaction. What is answered after it is written down, and nobody can hold a card twice,
whoever writes: in a file its name is a primary key, in a cluster only who read the newest may write. In
memory lies a copy, read anew when others have written."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from worker.clock import Clock
from worker.gpus import tenants
from worker.gpus.allocation import Allocation, Held, Request, Waiting
from worker.gpus.diary import Diary
from worker.gpus.inventory import Card, Node, load
from worker.gpus.keeper import Keeper
from worker.gpus.line import faded, settle
from worker.gpus.placement import Shelf, Sort, Stock, place, why_never
from worker.gpus.records import Records
from worker.gpus.refusals import Reason, Refusal, Said
from worker.gpus.slots import occupied

SEEN_S = 1.0
"""how often it is written down that time passes"""
MOST_TOLD = 5
"""of those who hold what somebody wants"""
KEYS_S = 86400.0
"""that an idempotency key is remembered after its allocation has ended"""


class Ledger:
    """For one thread; all but the constructor within `turn`."""

    def __init__(
        self,
        where: Path | Keeper,
        clock: Clock | None = None,
        boot: str | None = None,
        gone: Callable[[str], bool] = tenants.is_gone,
    ) -> None:
        """`gone`: says of a process whether it ended."""
        self._clock = clock or Clock()
        self._gone = gone
        self.allocations: dict[str, Allocation] = {}
        self.waiting: dict[str, Waiting] = {}
        self.nodes: Sequence[Node] = ()
        self.diary = Diary()
        self._told: Sequence[Node] = ()
        self._holder: dict[str, str] = {}
        self._cards: dict[str, Card] = {}
        self._stock = self._capacity = Stock()
        self._never: dict[Request, Said | None] = {}
        self._loads: Mapping[str, Mapping[str, float]] = {}
        self._version = -1
        self._seen = self._clock.now()
        self._inventory = ""
        self._strange: Refusal | None = None
        """this is not our ledger"""
        self._records: Keeper = (
            Records(where, self._seen, tenants.boot() if boot is None else boot)
            if isinstance(where, Path)
            else where
        )

    def close(self) -> None:
        self._records.close()

    @contextmanager
    def turn(self) -> Iterator[None]:
        try:
            with self._records.transaction():
                if self._version != self._records.version:
                    self._read()
                yield
            self.diary.close()
        except BaseException:
            self.diary.strike()
            self._version = -1  # what is in memory may be ahead of the file
            raise

    def belong(self, inventory: str) -> None:
        """To the one that supplies it. It changes hands only while nobody holds anything there."""
        self._inventory = inventory
        self._records.belong_to(inventory, free=not (self.allocations or self.waiting))
        self._strange = self._records.strange(inventory)
        self._refuse_strange()

    def missing(self) -> list[tuple[Allocation, Held]]:
        """What is held of cards that are no longer here."""
        return [
            (one, card)
            for one in self.allocations.values()
            for card in one.cards
            if card.uuid not in self._cards
        ]

    def supply(self, nodes: Sequence[Node]) -> None:
        """What there is now, in memory alone."""
        if nodes == self._told:
            return
        self._told = nodes
        self._occupy()
        self._capacity = Stock(card for card in self._cards.values() if not card.trouble)
        self._never.clear()
        self._loads = {node.name: load(node.cards) for node in nodes}
        self._restock()
        self.settle()

    def free(self, node: Node) -> list[Card]:
        return [card for card in node.cards if self._is_free(card)]

    @property
    def shelves(self) -> Mapping[Sort, Shelf]:
        """All free cards: not to be changed."""
        return self._stock.shelves

    @property
    def capacity(self) -> Mapping[Sort, Shelf]:
        """All healthy cards, free or not: not to be changed."""
        return self._capacity.shelves

    def utilization(self, node: str) -> Mapping[str, float]:
        return self._loads[node]

    def holder(self, card: Card) -> Allocation | None:
        return self.allocations.get(self._holder.get(card.uuid, ""))

    def allocate(
        self, request: Request, key: str = "", patience_s: float = 0.0, less: Request | None = None
    ) -> Allocation | Waiting:
        """What the key got before, a new allocation, or a ticket for the line. `less`: what will do too."""
        self._refuse_strange()
        if key and (known := self._known(key, (request, less))):
            return known
        try:
            return self._allocate(request, key, patience_s)
        except Refusal:
            if less is None:
                raise
            return self._allocate(less, key, 0.0)

    def _allocate(self, request: Request, key: str, patience_s: float) -> Allocation | Waiting:
        if full := self._records.full:
            raise Refusal(Reason.BUSY, wanted=request, why=full)
        now = self._clock.now()
        asked = Waiting(uuid.uuid4().hex, request, key, now, now + patience_s)
        if request.cards:
            return self._allocate_named(asked)
        if self.waiting:
            self.settle(asked)
            if asked.ticket in self.allocations:
                return self.allocations[asked.ticket]
        elif cards := place(self._stock, request):
            for card in cards:
                self._stock.take(card)
            return self._grant(asked, cards)
        self.check(request)
        if not patience_s:
            raise Refusal(Reason.BUSY, wanted=request, why=self._why_busy(request))
        self.waiting[asked.ticket] = asked
        self._records.enqueue(asked)
        self.diary.write("waiting", asked)
        return asked

    def _allocate_named(self, asked: Waiting) -> Allocation:
        """Who names cards does not wait in line, nor overtakes who does."""
        self.check(asked.request)
        cards = [self._cards[uuid] for uuid in asked.request.cards]
        in_line = (one.request for one in self.waiting.values())
        if any(map(self.holder, cards)) or any(one.suits(card) for one in in_line for card in cards):
            raise Refusal(Reason.BUSY, wanted=asked.request, why=self._why_busy(asked.request))
        for card in filter(self._is_free, cards):
            self._stock.take(card)
        return self._grant(asked, cards)

    def renew(self, name: str) -> Allocation:
        self._refuse_strange()
        held = self.get(name)
        renewed = replace(held, until=self._clock.now() + held.request.lease_s)
        self.allocations[name] = renewed
        self._records.renew(renewed)
        self.diary.write("renewed", renewed)
        return renewed

    def get(self, name: str) -> Allocation:
        if name not in self.allocations:
            raise Refusal(Reason.NO_ALLOCATION, said=name)
        return self.allocations[name]

    def left(self, name: str) -> float:
        """Seconds of its lease."""
        return self.get(name).until - self._clock.now()

    def check(self, request: Request) -> bool:
        """Free now? Refused if it can never be."""
        if never := self._why_never(request):
            raise Refusal(Reason.IMPOSSIBLE, wanted=request, why=never)
        if request.cards:
            return not any(self.holder(self._cards[uuid]) for uuid in request.cards)
        return not self.waiting and place(self._stock, request) is not None

    def release(self, name: str, why: str = "released") -> Allocation:
        ended = self.get(name)
        self._end(ended, why)
        self.settle()
        return ended

    def withdraw(self, key: str) -> list[Allocation]:
        """Who asked with this key wants nothing any more: out of the line, or back with it."""
        name, _ = self._records.asked_with(key) or ("", None)
        if late := self.waiting.pop(name, None):
            self._records.dequeue(name)
            self.diary.write("left", late, "withdrawn")
            self.settle()
        return [self.release(name, "withdrawn")] if name in self.allocations else []

    def clean(self, node: str) -> list[Allocation]:
        """All that hold a card of this node give all of theirs back: half a gang is of no use."""
        ended = [one for one in self.allocations.values() if node in one.nodes]
        if not ended and node not in (one.name for one in self.nodes):
            raise Refusal(Reason.NO_NODE, said=node, known=", ".join(one.name for one in self.nodes[:20]))
        for one in ended:
            self._end(one, f"{node} was cleaned up")
        self.settle()
        return ended

    def sweep(self) -> list[Allocation]:
        """Leases that ended, patience that ended; those whose lease ended."""
        now = self._clock.now()
        ended = [
            one for one in self.allocations.values() if one.until <= now or self._gone(one.request.process)
        ]
        for one in ended:
            self._end(one, "lease ended" if one.until <= now else "its process is gone")
        for late in [
            one for one in self.waiting.values() if one.until <= now or self._gone(one.request.process)
        ]:
            del self.waiting[late.ticket]
            self._records.dequeue(late.ticket)
            self.diary.write("left", late, "waited in vain")
        if now - self._seen >= SEEN_S:
            self._seen = now
            self._records.tick(now, forget_before=now - KEYS_S)
        self.settle()
        return ended

    def settle(self, *new: Waiting) -> None:
        """Those who wait get what is free."""
        if not self.waiting and not new:
            return
        held = Counter[str]()
        for one in self.allocations.values():
            held[one.request.owner] += len(one.cards)
        everyone = [*self.waiting.values(), *new]
        spent = {owner: self._spent(owner) for owner in {one.request.owner for one in everyone}}
        for waiting, cards in list(settle(everyone, self._stock, held, spent, self._is_possible)):
            self._grant(waiting, cards)

    def _grant(self, asked: Waiting, cards: Collection[Card]) -> Allocation:
        now = self._clock.now()
        held = tuple(Held.of(card) for card in cards)
        made = Allocation(asked.ticket, asked.request, held, asked.key, now, now + asked.request.lease_s)
        self._records.begin(made)
        self.diary.write("made", made)
        if self.waiting.pop(asked.ticket, None):
            self._records.dequeue(asked.ticket)
        self._note(made)
        return made

    def _end(self, one: Allocation, why: str) -> None:
        now = self._clock.now()
        spent = self._spent(one.request.owner) + len(one.cards) * (now - one.made)
        self._records.end(one, now, why, spent)
        self.diary.write("ended", one, why)
        del self.allocations[one.id]
        for card in one.cards:
            del self._holder[card.uuid]
            if (here := self._cards.get(card.uuid)) and self._is_free(here):
                self._stock.put(here)

    def _known(self, key: str, either: Collection[Request | None]) -> Allocation | Waiting | None:
        known = self._records.asked_with(key)
        if known is None:
            return None
        name, request = known
        if request not in either:
            raise Refusal(Reason.KEY_REUSED, said=key)
        if name in self.waiting:
            return self.waiting[name]
        if name not in self.allocations:
            raise Refusal(Reason.KEY_ENDED, said=key)
        return self.allocations[name]

    def _spent(self, owner: str) -> float:
        gpu_seconds, at = self._records.spent(owner)
        return faded(gpu_seconds, self._clock.now() - at)

    def _read(self) -> None:
        self.allocations.clear()
        self._holder.clear()
        for one in self._records.allocations():
            self._note(one)
        self.waiting = {one.ticket: one for one in self._records.waiting()}
        self._occupy()
        self._restock()
        self._strange = self._records.strange(self._inventory)
        self.diary.compare(self.allocations, self.waiting, self._records.why)
        self._version = self._records.version

    def _refuse_strange(self) -> None:
        if self._strange:
            raise self._strange

    def _note(self, one: Allocation) -> None:
        self.allocations[one.id] = one
        self._holder |= {card.uuid: one.id for card in one.cards}

    def _occupy(self) -> None:
        self.nodes = [occupied(node, self._holder) for node in self._told]
        self._cards = {card.uuid: card for node in self.nodes for card in node.cards}

    def _restock(self) -> None:
        self._stock = Stock(card for card in self._cards.values() if self._is_free(card))

    def _is_free(self, card: Card) -> bool:
        """Where something runs that we did not start there, nobody is sent."""
        return not card.trouble and not card.used and card.uuid not in self._holder

    def _is_possible(self, request: Request) -> bool:
        return not self._why_never(request)

    def _why_never(self, request: Request) -> Said | None:
        """A look at the whole cluster, once for all who ask alike."""
        if missing := [uuid for uuid in request.cards if uuid not in self._cards]:
            return Said(f"{', '.join(missing)} is not here", f"没有 {'、'.join(missing)}")
        alike = replace(request, owner="", priority=0, lease_s=0.0, process="")
        if alike not in self._never:
            self._never[alike] = None if request.cards else why_never(self._capacity, request)
        return self._never[alike]

    def _why_busy(self, request: Request) -> Said:
        suiting = [
            card for card in self._cards.values() if request.suits(card) and request.node in ("", card.node)
        ]
        free = sum(self._is_free(card) for card in suiting)
        foreign = sum(card.used and card.uuid not in self._holder for card in suiting)
        numbers = free, len(suiting), foreign, len(self.waiting)
        holders = sorted({one.who for card in suiting if (one := self.holder(card)) and one.request.owner})[
            :MOST_TOLD
        ]
        return Said(
            "{} of {} such cards are free, {} in use by others, {} requests wait in line".format(*numbers)
            + (f"; held by {', '.join(holders)}" if holders else ""),
            "这样的卡空闲 {}/{}，{} 张被其他程序占用，{} 个请求在排队".format(*numbers)
            + (f"；占用者：{'、'.join(holders)}" if holders else ""),
        )
