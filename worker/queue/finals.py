"""The one final answer of each item of a finished queue."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from worker.errors import UsageError
from worker.items import Failure, Result
from worker.queue import parts
from worker.queue.answers import Done, read_done
from worker.queue.protocol import Candidate
from worker.queue.store import Store, in_order
from worker.queue.superseded import Superseded, without

_TABLE = """
CREATE TABLE given (input, item, failed, age, shard, kind, at, seconds, worker, attempts, files, line)
"""
_PICK = """
CREATE TABLE final AS SELECT input, kind, at, seconds, worker, attempts, files, line FROM (
    SELECT *, row_number() OVER (PARTITION BY input, item ORDER BY failed, age, shard) AS place FROM given
) WHERE place = 1 ORDER BY input, item
"""


class Spent(NamedTuple):
    """What one item took."""

    input: str
    seconds: float | None
    worker: str | None
    attempts: int
    """more than one: a job raised, and was tried again"""


class Event(NamedTuple):
    """When an item was answered, and by whom."""

    at: float | None
    """wall clock, for people. None: nobody ran it"""
    input: str
    seconds: float | None
    worker: str | None
    failure: Failure | None


class FinalAnswers(Collection[Result]):
    """Per item the one answer that counts (rules 9 and 10), sorted by input.

    They lie in a temporary file, as a million are too much for the memory; sqlite sorts them there, and says
    what is asked most without a look into the answers."""

    def __init__(self, database: sqlite3.Connection, *, plain: bool = False) -> None:
        self._database = database
        self._plain = plain

    def plain(self) -> FinalAnswers:
        """The same, without how they went."""
        return FinalAnswers(self._database, plain=True)

    def __len__(self) -> int:
        return int(next(self._select("count(*)"))[0])

    def __iter__(self) -> Iterator[Result]:
        return self._read("")

    def __contains__(self, result: object) -> bool:
        return any(one == result for one in self)

    def kinds(self) -> Counter[str]:
        """Failures, by kind."""
        return Counter(dict(self._select("kind, count(*)", "WHERE kind NOT NULL GROUP BY kind")))

    def spent(self) -> Iterator[Spent]:
        return map(Spent._make, self._select("input, seconds, worker, attempts", "ORDER BY rowid"))

    def events(self) -> Iterator[Event]:
        """In the order of time."""
        columns = "at, input, seconds, worker, CASE WHEN kind NOT NULL THEN line END"
        for at, input, seconds, worker, line in self._select(columns, "ORDER BY at, rowid"):
            failed = parts.read_line(line).outcome if line else None
            yield Event(at, input, seconds, worker, failed if isinstance(failed, Failure) else None)

    def with_files(self) -> Iterator[Result]:
        return self._read("WHERE files")

    def first(self, most: int) -> list[Result]:
        """The first answers and the first failures, so many of each."""
        answered = self._read("WHERE kind ISNULL", most)
        return [*answered, *self._read("WHERE kind NOT NULL", most)]

    def _read(self, which: str, most: int = -1) -> Iterator[Result]:
        for (line,) in self._select("line", f"{which} ORDER BY rowid LIMIT {most}"):
            result = parts.read_line(line)
            yield replace(result, run={}) if self._plain else result

    def _select(self, columns: str, rest: str = "") -> sqlite3.Cursor:
        with _room():
            return self._database.execute(f"SELECT {columns} FROM final {rest}")


def read_finals(store: Store, shards: Sequence[str]) -> FinalAnswers:
    gone = Superseded(store).look()
    return final_answers(in_order(lambda name: without(read_done(store, name), gone), shards))


def final_answers(done: Iterable[Done]) -> FinalAnswers:
    with _room():
        database = sqlite3.connect("", isolation_level=None)  # a file without a name, which goes with us
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("BEGIN")
        database.execute(_TABLE)
        for one in done:
            if rows := _rows(one):
                # one call a shard, for after each another thread may have its turn
                places = ",".join([f"({'?,' * 11}?)"] * len(rows))
                database.execute(f"INSERT INTO given VALUES {places}", [*chain.from_iterable(rows)])
        database.execute(_PICK)
        database.execute("DROP TABLE given")
        database.execute("COMMIT")
    return FinalAnswers(database)


def _rows(done: Done) -> list[tuple[object, ...]]:
    ranks = {ok: Candidate(done.shard.generation, done.shard.name, ok).rank for ok in (True, False)}
    results = (done.answers[item.id] for item in done.shard.items)
    return [
        (
            *(result.input, result.item, *ranks[result.ok]),
            *(result.kind, result.run.get("at"), result.seconds),
            *(result.run.get("worker"), result.run.get("attempts", 1)),
            *(bool(result.files), parts.line(result)),
        )
        for result in results
    ]


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UsageError(
            f"the answers cannot be sorted in the temporary folder ({error}): make room there, or set TMPDIR"
        ) from None
