"""One event, seen as several incidents, is told once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.unit.test_ghost_probing import incident
from worker.ghosts.events import surest
from worker.ghosts.incident import Incident


def lasting(start: float, end: float) -> Incident:
    return replace(incident(), start_s=start, end_s=end)


def always(one: Incident, other: Incident) -> bool:  # noqa: ARG001
    return True


def never(one: Incident, other: Incident) -> bool:  # noqa: ARG001
    return False


def test_of_one_event_the_surest_speaks() -> None:
    first, second = lasting(1, 2), lasting(1.5, 3)
    assert list(surest([(0.3, first), (0.4, second)], always)) == [second]
    assert list(surest([(0.4, first), (0.3, second)], always)) == [first]


def test_different_events_at_one_time_are_told_in_the_order_they_begin() -> None:
    first, second = lasting(1, 3), lasting(2, 3)
    assert list(surest([(0.3, first), (0.4, second)], never)) == [first, second]


def test_what_is_apart_in_time_is_not_one_event() -> None:
    first, second = lasting(1, 2), lasting(2.5, 3)
    found = [(0.3, first), (0.4, second)]
    assert list(surest(found, always)) == [first, second]
    assert list(surest(found, always, apart_s=1.0)) == [second]


def test_a_long_one_keeps_what_it_covers_together() -> None:
    long, short, late = lasting(1, 9), lasting(2, 3), lasting(8, 9)
    assert list(surest([(0.5, long), (0.3, short), (0.4, late)], always)) == [long]


def test_an_event_is_told_as_soon_as_it_is_over() -> None:
    taken = []

    def endless() -> Iterator[tuple[float, Incident]]:
        for n in range(0, 10**9, 10):
            taken.append(n)
            yield 0.5, lasting(n, n + 1)

    told = surest(endless(), always)
    assert [next(told).start_s for _ in range(3)] == [0, 10, 20]
    assert taken == [0, 10, 20, 30]
