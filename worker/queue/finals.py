"""The one final answer of each item of a finished queue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from worker.items import Result
from worker.queue import parts
from worker.queue.answers import Done, read_done
from worker.queue.protocol import Candidate
from worker.queue.store import Store, at_once

_Ranked = tuple[str, str, tuple[bool, int, str], bytes]
"""input, item, rank, line"""


class FinalAnswers(Sequence[Result]):
    """Per item the one answer that counts (rules 9 and 10), sorted by input.

    They are kept as lines and read when they are looked at: a million results are too much for the memory."""

    def __init__(self, lines: Sequence[bytes], *, plain: bool = False) -> None:
        self._lines = lines
        self._plain = plain

    def plain(self) -> FinalAnswers:
        """The same, without how they went."""
        return FinalAnswers(self._lines, plain=True)

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[Result]:
        return map(self._read, self._lines)

    def __getitem__(self, at: Any) -> Any:
        return [*map(self._read, self._lines[at])] if isinstance(at, slice) else self._read(self._lines[at])

    def _read(self, line: bytes) -> Result:
        result = parts.read_line(line)
        return replace(result, run={}) if self._plain else result


def read_finals(store: Store, shards: Sequence[str]) -> FinalAnswers:
    return _finals(at_once(lambda name: _ranked(read_done(store, name)), shards))


def final_answers(done: Iterable[Done]) -> FinalAnswers:
    return _finals(map(_ranked, done))


def _ranked(done: Done) -> list[_Ranked]:
    ranks = {ok: Candidate(done.shard.generation, done.shard.name, ok).rank for ok in (True, False)}
    results = (done.answers[item.id] for item in done.shard.items)
    return [(result.input, result.item, ranks[result.ok], parts.line(result)) for result in results]


def _finals(ranked: Iterable[Sequence[_Ranked]]) -> FinalAnswers:
    """Answers of one item come to stand side by side, the best one first."""
    lines: list[bytes] = []
    last = ""
    for _, item, _, line in sorted(chain.from_iterable(ranked)):
        if item != last:
            lines.append(line)
        last = item
    return FinalAnswers(lines)
