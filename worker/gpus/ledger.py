"""Who holds which card: a file that survives its process, and that several processes may share.

A turn is one transaction. What is answered after it is on the disk, and a card's name is a primary key there:
nobody can hold it twice, whoever writes. In memory lies a copy, read anew when others have written."""

from __future__ import annotations

import sqlite3
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from worker.clock import Clock
from worker.errors import MachineError
from worker.gpus.allocation import Allocation, Held, Request, Waiting, decode_cards, encode_cards
from worker.gpus.inventory import Card, Node, load
from worker.gpus.line import faded, settle
from worker.gpus.placement import Shelf, Sort, Stock, place, why_never
from worker.gpus.refusals import Reason, Refusal, Said

SCHEMA = """
CREATE TABLE IF NOT EXISTS allocations (
    id TEXT PRIMARY KEY, request TEXT NOT NULL, cards TEXT NOT NULL, key TEXT UNIQUE,
    made REAL NOT NULL, until REAL NOT NULL, ended REAL, why TEXT) STRICT;
CREATE INDEX IF NOT EXISTS ended ON allocations (ended);
CREATE TABLE IF NOT EXISTS held (card TEXT PRIMARY KEY, allocation TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS waiting (
    ticket TEXT PRIMARY KEY, request TEXT NOT NULL, key TEXT UNIQUE,
    asked REAL NOT NULL, until REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS spent (owner TEXT PRIMARY KEY, gpu_seconds REAL NOT NULL, at REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS clock (one INTEGER PRIMARY KEY CHECK (one = 1), boot TEXT, seen REAL) STRICT;
"""
BUSY_S = 30.0
"""that another process may take for its turn"""
SEEN_S = 1.0
"""how often it is written down that time passes"""
GAP_S = 5.0
"""without which a ledger counts as closed: leases stand still then, for nobody could renew them"""
KEYS_S = 86400.0
"""that an idempotency key is remembered after its allocation has ended"""
BOOT = Path("/proc/sys/kernel/random/boot_id")


class Ledger:
    """For one thread; all but the constructor within `turn`."""

    def __init__(self, file: Path, clock: Clock | None = None, boot: str | None = None) -> None:
        self._clock = clock or Clock()
        self.allocations: dict[str, Allocation] = {}
        self.waiting: dict[str, Waiting] = {}
        self.nodes: Sequence[Node] = ()
        self._holder: dict[str, str] = {}
        self._cards: dict[str, Card] = {}
        self._stock = self._capacity = Stock()
        self._never: dict[Request, Said | None] = {}
        self._loads: Mapping[str, Mapping[str, float]] = {}
        self._version = -1
        self._seen = 0.0
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(SCHEMA)
            with self.turn():
                self._bridge(_boot() if boot is None else boot)
        except sqlite3.Error as error:
            raise MachineError(
                f"{file}: {error}: is it a ledger of GPUs, on a disk of this machine?"
            ) from error

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def turn(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if self._version != self._data_version():
                self._read()
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._version = -1  # what is in memory may be ahead of the file
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def supply(self, nodes: Sequence[Node]) -> None:
        """What there is now, in memory alone."""
        self.nodes = nodes
        self._cards = {card.uuid: card for node in nodes for card in node.cards}
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

    def utilization(self, node: str) -> Mapping[str, float]:
        return self._loads[node]

    def holder(self, card: Card) -> Allocation | None:
        return self.allocations.get(self._holder.get(card.uuid, ""))

    def allocate(
        self, request: Request, key: str = "", patience_s: float = 0.0, less: Request | None = None
    ) -> Allocation | Waiting:
        """What the key got before, a new allocation, or a ticket for the line. `less`: what will do too."""
        if key and (known := self._known(key, (request, less))):
            return known
        try:
            return self._allocate(request, key, patience_s)
        except Refusal:
            if less is None:
                raise
            return self._allocate(less, key, 0.0)

    def _allocate(self, request: Request, key: str, patience_s: float) -> Allocation | Waiting:
        now = self._clock.now()
        asked = Waiting(uuid.uuid4().hex, request, key, now, now + patience_s)
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
        self._db.execute(
            "INSERT INTO waiting VALUES (?, ?, ?, ?, ?)",
            (asked.ticket, request.encode(), key or None, asked.asked, asked.until),
        )
        return asked

    def renew(self, name: str) -> Allocation:
        held = self.get(name)
        renewed = replace(held, until=self._clock.now() + held.request.lease_s)
        self.allocations[name] = renewed
        self._db.execute("UPDATE allocations SET until = ? WHERE id = ?", (renewed.until, name))
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
        return not self.waiting and place(self._stock, request) is not None

    def release(self, name: str, why: str = "released") -> Allocation:
        ended = self.get(name)
        self._end(ended, why)
        self.settle()
        return ended

    def clean(self, node: str) -> list[Allocation]:
        """All that hold a card of this node give all of theirs back: half a gang is of no use."""
        ended = [one for one in self.allocations.values() if node in one.nodes]
        if not ended and node not in (one.name for one in self.nodes):
            raise Refusal(Reason.NO_NODE, said=node, known=", ".join(one.name for one in self.nodes[:20]))
        for one in ended:
            self._end(one, f"{node} was cleaned up")
        self.settle()
        return ended

    def withdraw(self, ticket: str) -> None:
        """Nobody waits for it any longer. What it got meanwhile goes back."""
        if ticket in self.allocations:
            self.release(ticket, "withdrawn")
        elif self.waiting.pop(ticket, None):
            self._db.execute("DELETE FROM waiting WHERE ticket = ?", (ticket,))
            self.settle()

    def sweep(self) -> list[Allocation]:
        """Leases that ended, patience that ended; those whose lease ended."""
        now = self._clock.now()
        ended = [one for one in self.allocations.values() if one.until <= now]
        for one in ended:
            self._end(one, "lease ended")
        for late in [one for one in self.waiting.values() if one.until <= now]:
            del self.waiting[late.ticket]
            self._db.execute("DELETE FROM waiting WHERE ticket = ?", (late.ticket,))
        if now - self._seen >= SEEN_S:
            self._seen = now
            self._db.execute("UPDATE clock SET seen = ?", (now,))
            self._db.execute("DELETE FROM allocations WHERE ended < ?", (now - KEYS_S,))
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

    # what is in the file

    def _grant(self, asked: Waiting, cards: Collection[Card]) -> Allocation:
        now = self._clock.now()
        held = tuple(Held.of(card) for card in cards)
        made = Allocation(asked.ticket, asked.request, held, asked.key, now, now + asked.request.lease_s)
        self._db.execute(
            "INSERT INTO allocations VALUES (?, ?, ?, ?, ?, ?, NULL, NULL)",
            (made.id, made.request.encode(), encode_cards(held), made.key or None, made.made, made.until),
        )
        self._db.executemany("INSERT INTO held VALUES (?, ?)", [(card.uuid, made.id) for card in held])
        if self.waiting.pop(asked.ticket, None):
            self._db.execute("DELETE FROM waiting WHERE ticket = ?", (asked.ticket,))
        self._note(made)
        return made

    def _end(self, one: Allocation, why: str) -> None:
        now, owner = self._clock.now(), one.request.owner
        spent = self._spent(owner) + len(one.cards) * (now - one.made)
        self._db.execute("UPDATE allocations SET ended = ?, why = ? WHERE id = ?", (now, why, one.id))
        self._db.execute("DELETE FROM held WHERE allocation = ?", (one.id,))
        self._db.execute("INSERT OR REPLACE INTO spent VALUES (?, ?, ?)", (owner, spent, now))
        del self.allocations[one.id]
        for card in one.cards:
            del self._holder[card.uuid]
            if (here := self._cards.get(card.uuid)) and self._is_free(here):
                self._stock.put(here)

    def _known(self, key: str, either: Collection[Request | None]) -> Allocation | Waiting | None:
        for table, name in (("allocations", "id"), ("waiting", "ticket")):
            row = self._db.execute(f"SELECT {name}, request FROM {table} WHERE key = ?", (key,)).fetchone()
            if row is None:
                continue
            if Request.decode(row[1]) not in either:
                raise Refusal(Reason.KEY_REUSED, said=key)
            known = self.allocations.get(row[0]) or self.waiting.get(row[0])
            if known is None:
                raise Refusal(Reason.KEY_ENDED, said=key)
            return known
        return None

    def _spent(self, owner: str) -> float:
        row = self._db.execute("SELECT gpu_seconds, at FROM spent WHERE owner = ?", (owner,)).fetchone()
        return faded(row[0], self._clock.now() - row[1]) if row else 0.0

    def _data_version(self) -> int:
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def _read(self) -> None:
        self.allocations.clear()
        self._holder.clear()
        for name, request, cards, key, made, until in self._db.execute(
            "SELECT id, request, cards, key, made, until FROM allocations WHERE ended IS NULL"
        ):
            held = decode_cards(cards)
            self._note(Allocation(name, Request.decode(request), held, key or "", made, until))
        self.waiting = {
            ticket: Waiting(ticket, Request.decode(request), key or "", asked, until)
            for ticket, request, key, asked, until in self._db.execute("SELECT * FROM waiting ORDER BY rowid")
        }
        self._restock()
        self._version = self._data_version()

    def _bridge(self, boot: str) -> None:
        """The time in which no process had the ledger open is taken out of every lease."""
        now = self._clock.now()
        row = self._db.execute("SELECT boot, seen FROM clock").fetchone()
        gap = now - row[1] if row else 0.0
        if row and (row[0] != boot or gap > GAP_S):
            for table, columns in (
                ("allocations", ("made", "until", "ended")),
                ("waiting", ("asked", "until")),
                ("spent", ("at",)),
            ):
                moved = ", ".join(f"{column} = {column} + :gap" for column in columns)
                self._db.execute(f"UPDATE {table} SET {moved}", {"gap": gap})
            self._read()
        self._seen = now
        self._db.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?)", (boot, now))

    # what is in memory

    def _note(self, one: Allocation) -> None:
        self.allocations[one.id] = one
        self._holder |= {card.uuid: one.id for card in one.cards}

    def _restock(self) -> None:
        self._stock = Stock(card for card in self._cards.values() if self._is_free(card))

    def _is_free(self, card: Card) -> bool:
        """Where something runs that we did not start there, nobody is sent."""
        return not card.trouble and not card.processes and card.uuid not in self._holder

    def _is_possible(self, request: Request) -> bool:
        return not self._why_never(request)

    def _why_never(self, request: Request) -> Said | None:
        """A look at the whole cluster, once for all who ask alike."""
        alike = replace(request, owner="", priority=0, lease_s=0.0)
        if alike not in self._never:
            self._never[alike] = why_never(self._capacity, request)
        return self._never[alike]

    def _why_busy(self, request: Request) -> Said:
        suiting = [
            card for card in self._cards.values() if request.suits(card) and request.node in ("", card.node)
        ]
        free = sum(self._is_free(card) for card in suiting)
        foreign = sum(bool(card.processes) and card.uuid not in self._holder for card in suiting)
        numbers = free, len(suiting), foreign, len(self.waiting)
        return Said(
            "{} of {} such cards are free, {} in use by others, {} requests wait in line".format(*numbers),
            "这样的卡空闲 {}/{}，{} 张被其他程序占用，{} 个请求在排队".format(*numbers),
        )


def _boot() -> str:
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""
