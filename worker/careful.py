"""The way of a shard over which workers died: one item at a time, named in a beat first (rule 7)."""

from __future__ import annotations

import logging
from collections.abc import Callable

from worker.clerk import Clerk
from worker.items import Item, Result
from worker.queue.holding import Holding

log = logging.getLogger(__name__)


def go_carefully(
    holding: Holding, clerk: Clerk, answer: Callable[[Item], Result | None], stopping: Callable[[], str]
) -> None:
    """Each result is written at once. answer: one item all the way, or None: stopped meanwhile.
    stopping: why this worker is to end; "" while it is not."""
    log.warning("shard %s killed its workers: going item by item", holding.shard.name)
    for item in clerk.now(holding.left):
        if why := stopping():
            clerk.now(holding.release, why)
            return
        if not clerk.now(holding.ours) or not clerk.now(holding.begin, [item]):
            # who is being stopped hears nothing any more: then it is handed back
            clerk.now(*((holding.release, stopping()) if stopping() else (holding.drop,)))
            return
        result = answer(item)
        if result is None:
            break
        clerk.now(holding.add, [result])
        clerk.now(holding.flush)
    if clerk.now(lambda: holding.complete):
        clerk.now(holding.commit)
    else:
        clerk.now(holding.release, stopping() or "incomplete")
