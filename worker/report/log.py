"""The log of a run: what was answered or failed, when and by which worker, as the queue's records tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from heapq import merge
from typing import TypeAlias

from worker.harmless import harmless
from worker.items import Json
from worker.queue.beat import Beat
from worker.queue.finals import Event
from worker.redact import redact
from worker.report.files import shown

_Said: TypeAlias = tuple[float, str]
"""when, and what"""


def log_lines(
    events: Iterable[Event], beats: Sequence[Beat], refused: Sequence[Mapping[str, Json]]
) -> Iterator[bytes]:
    """`events` in the order of time, which is that of the workers' wall clocks."""
    for line in refused:
        yield _line((0.0, redact(f"refused  {line['file']}, line {line['line']}: {line['why']}")))
    workers = sorted(said for beat in beats for said in _of_worker(beat))
    yield from map(_line, merge(map(_of_item, events), workers, key=lambda said: said[0]))


def _of_item(event: Event) -> _Said:
    words = [
        "failed " if event.failure else "ok     ",
        shown(event.input),
        *([f"{event.seconds:.2f} s"] if event.seconds is not None else ()),
        *([f"worker {event.worker[:8]}"] if event.worker else ()),
        *([f"{event.failure.kind}: {redact(event.failure.message)}"] if event.failure else ()),
    ]
    return event.at or 0.0, "  ".join(words)


def _of_worker(beat: Beat) -> Iterator[_Said]:
    name, info = f"worker {beat.worker[:8]}", beat.info
    if info.get("wall_s") is not None:
        yield beat.at - info["wall_s"], f"began    {name}  {info.get('device')} on {info.get('host')}"
    yield beat.at, f"heard    {name}  for the last time: {info.get('state', 'nothing said')}"


def _line(said: _Said) -> bytes:
    at, text = said
    return f"{_when(int(at))}  {harmless(text)}\n".encode()


@lru_cache(maxsize=1)
def _when(at: int) -> str:
    """Many items are answered in one second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else "-".ljust(20)
