"""The ledger's file, statement by statement. What it means is decided in ledger.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.errors import MachineError
from worker.gpus.allocation import Allocation, Request, Waiting, decode_cards, encode_cards
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
CREATE TABLE IF NOT EXISTS inventory (one INTEGER PRIMARY KEY CHECK (one = 1), name TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS clock (one INTEGER PRIMARY KEY CHECK (one = 1), boot TEXT, seen REAL) STRICT;
"""
BUSY_S = 30.0
"""that another process may take for its turn"""
GAP_S = 5.0
"""without which a ledger counts as closed"""


class Records:
    full: Said | None = None

    def __init__(self, file: Path, now: float, boot: str) -> None:
        self._file, self._boot = file, boot
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(SCHEMA)
            with self._written():
                self._bridge(now, boot)
        except (sqlite3.Error, OSError) as error:
            raise MachineError(
                f"{file}: {error}: is it a ledger of GPUs, on a disk of this machine?"
            ) from error

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A full or ailing disk is no fault of who asks: he may ask again."""
        try:
            with self._written():
                yield
        except sqlite3.OperationalError as error:
            raise Refusal(Reason.NOT_READY, why=f"the ledger {self._file}: {error}") from error

    @contextmanager
    def _written(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @property
    def version(self) -> int:
        """Another one once another process has written."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def allocations(self) -> Iterator[Allocation]:
        """Those that have not ended."""
        for name, request, cards, key, made, until in self._db.execute(
            "SELECT id, request, cards, key, made, until FROM allocations WHERE ended IS NULL"
        ):
            yield Allocation(name, Request.decode(request), decode_cards(cards), key or "", made, until)

    def waiting(self) -> Iterator[Waiting]:
        for ticket, request, key, asked, until in self._db.execute("SELECT * FROM waiting ORDER BY rowid"):
            yield Waiting(ticket, Request.decode(request), key or "", asked, until)

    def asked_with(self, key: str) -> tuple[str, Request] | None:
        """The name of what a key once got, or waits for, and the request."""
        row = self._db.execute(
            "SELECT id, request FROM allocations WHERE key = :key "
            "UNION ALL SELECT ticket, request FROM waiting WHERE key = :key",
            {"key": key},
        ).fetchone()
        return (row[0], Request.decode(row[1])) if row else None

    def spent(self, owner: str) -> tuple[float, float]:
        """GPU seconds, and when that was so."""
        row = self._db.execute("SELECT gpu_seconds, at FROM spent WHERE owner = ?", (owner,)).fetchone()
        return row or (0.0, 0.0)

    def begin(self, made: Allocation) -> None:
        cards = encode_cards(made.cards)
        self._db.execute(
            "INSERT INTO allocations VALUES (?, ?, ?, ?, ?, ?, NULL, NULL)",
            (made.id, made.request.encode(), cards, made.key or None, made.made, made.until),
        )
        self._db.executemany("INSERT INTO held VALUES (?, ?)", [(card.uuid, made.id) for card in made.cards])

    def renew(self, renewed: Allocation) -> None:
        self._db.execute("UPDATE allocations SET until = ? WHERE id = ?", (renewed.until, renewed.id))

    def end(self, one: Allocation, now: float, why: str, spent: float) -> None:
        self._db.execute("UPDATE allocations SET ended = ?, why = ? WHERE id = ?", (now, why, one.id))
        self._db.execute("DELETE FROM held WHERE allocation = ?", (one.id,))
        self._db.execute("INSERT OR REPLACE INTO spent VALUES (?, ?, ?)", (one.request.owner, spent, now))

    def why(self, name: str) -> str:
        """It ended."""
        row = self._db.execute("SELECT why FROM allocations WHERE id = ?", (name,)).fetchone()
        return row[0] or "" if row else ""

    def enqueue(self, one: Waiting) -> None:
        self._db.execute(
            "INSERT INTO waiting VALUES (?, ?, ?, ?, ?)",
            (one.ticket, one.request.encode(), one.key or None, one.asked, one.until),
        )

    def dequeue(self, ticket: str) -> None:
        self._db.execute("DELETE FROM waiting WHERE ticket = ?", (ticket,))

    def strange(self, inventory: str) -> Refusal | None:
        """Why it is not the ledger of this inventory; it may be that of none yet."""
        boot = self._db.execute("SELECT boot FROM clock").fetchone()
        name = self._inventory
        if boot and boot[0] != self._boot:
            why = "another machine uses it, and a ledger lies on a disk of one"
        elif inventory and name and name != inventory:
            why = f"it is that of {name}, and this is {inventory}"
        else:
            return None
        return Refusal(Reason.WRONG_FILE, file=self._file, said=f"{why}: name another one with --ledger")

    def belong_to(self, inventory: str, *, free: bool) -> None:
        if not self._inventory or (free and self._inventory != inventory):
            self._db.execute("INSERT OR REPLACE INTO inventory VALUES (1, ?)", (inventory,))

    @property
    def _inventory(self) -> str:
        """Empty: of none yet."""
        found = self._db.execute("SELECT name FROM inventory").fetchone()
        return found[0] if found else ""

    def tick(self, now: float, forget_before: float) -> None:
        self._db.execute("UPDATE clock SET seen = ?", (now,))
        self._db.execute("DELETE FROM allocations WHERE ended < ?", (forget_before,))

    def _bridge(self, now: float, boot: str) -> None:
        """Leases stand still while no process has the ledger open, for nobody could renew them."""
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
        self._db.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?)", (boot, now))
