"""Windows of one camera that overlap (worker record): what two of them tell is one event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from worker.evaluation.verdicts import seconds
from worker.ghosts.words import KINDS
from worker.items import Answer, Json, Result
from worker.media.stamp import began_at

_UNKNOWN = frozenset(KINDS["unknown"].values())


@dataclass(slots=True)
class _Event:
    """In seconds of the clock by which the windows are named."""

    input: str
    """the window that told it first"""
    start: float
    end: float
    kind: str
    until: float
    """the end of the last window that told it"""

    def shared(self, other: _Event) -> float | None:
        """None: they are two events."""
        shared = min(self.end, other.end) - max(self.start, other.start)
        kinds = {self.kind, other.kind} - _UNKNOWN
        return shared if shared >= 0 and len(kinds) < 2 else None

    def also(self, other: _Event) -> None:
        self.start, self.end = min(self.start, other.start), max(self.end, other.end)
        self.kind = other.kind if self.kind in _UNKNOWN else self.kind
        self.until = max(self.until, other.until)


def told_once(results: Iterable[Result]) -> Iterator[Result]:
    """Results in the order of their inputs. An incident that an earlier window told says so: `told_in`."""
    known: defaultdict[str, list[_Event]] = defaultdict(list)
    for result in results:
        began = began_at(result.input)
        if began is None or not isinstance(result.outcome, Answer):
            yield result
            continue
        folder = str(PurePosixPath(result.input).parent)
        known[folder] = [event for event in known[folder] if event.until >= began]
        yield _marked(result, result.outcome, began, known[folder])


def told_in(incident: Mapping[str, Json]) -> str | None:
    """The window that told it before."""
    return (incident.get("evidence") or {}).get("told_in")


def _marked(result: Result, answer: Answer, began: float, known: list[_Event]) -> Result:
    """`known`: what earlier windows told that reach into this one; what this one tells is added."""
    until = began + answer.keys["duration_s"]
    before = list(known)
    incidents = []
    for one in answer.keys["incidents"]:
        start, end = began + seconds(one["start_time"]), began + seconds(one["end_time"])
        event = _Event(result.input, start, end, one["object_type"], until)
        if same := _same(event, before):
            before.remove(same)
            same.also(event)
            one = one | {"evidence": (one.get("evidence") or {}) | {"told_in": same.input}}
        else:
            known.append(event)
        incidents.append(one)
    return replace(result, outcome=replace(answer, keys={**answer.keys, "incidents": incidents}))


def _same(event: _Event, known: Iterable[_Event]) -> _Event | None:
    """The one that shares most time with it; each is told once a window."""
    found = [(shared, one) for one in known if (shared := event.shared(one)) is not None]
    return max(found, key=lambda pair: pair[0])[1] if found else None
