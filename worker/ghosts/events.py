"""One event is often seen as several incidents: the surest of them speaks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from worker.ghosts.incident import Incident


def surest(
    found: Iterable[tuple[float, Incident]], same: Callable[[Incident, Incident], bool], apart_s: float = 0.0
) -> Iterator[Incident]:
    """Each with how sure it is, in the order they begin; and so they are handed on, as soon as no other one
    can belong to them. `same`: are two of them one event? More than so many seconds apart they are not."""
    together: list[tuple[float, Incident]] = []
    until = 0.0
    for sure, one in found:
        if together and one.start_s > until + apart_s:
            yield from _of_each(together, same)
            together = []
        until = max(until, one.end_s) if together else one.end_s
        together.append((sure, one))
    yield from _of_each(together, same)


def _of_each(
    found: Iterable[tuple[float, Incident]], same: Callable[[Incident, Incident], bool]
) -> list[Incident]:
    kept: list[Incident] = []
    for _, one in sorted(found, key=lambda each: -each[0]):
        if not any(same(one, other) for other in kept):
            kept.append(one)
    return sorted(kept, key=lambda one: one.start_s)
