"""What a queue may cost: what all its workers have spent, as their beats tell, against --budget.

A worker's own spending is known to the cent; what others spend is known a minute and a
quarter of a TTL later, and what a worker spent after its last beat, when it was killed, is known to nobody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from worker.errors import UnfinishedError, UsageError, WorkerError
from worker.items import Json
from worker.queue import layout
from worker.queue.beat import Beat

if TYPE_CHECKING:
    from worker.queue.store import Store

LOOK_S = 60.0
"""between two looks at what others have spent"""
END_S = 60.0
"""what a worker takes to end, paid by the hour"""

log = logging.getLogger(__name__)


def refuse_unpriced(budget: float | None, price: object) -> None:
    """What costs nothing never uses up a budget."""
    if budget is not None and not price:
        raise UsageError(
            "--budget needs prices: --price-per-hour of this machine; with engine openai "
            "WORKER_PRICE_IN and WORKER_PRICE_OUT of the model"
        )


class Purse:
    def __init__(
        self,
        store: Store,
        worker: str,
        *,
        budget: float | None,
        per_hour: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`per_hour`: USD of this worker's share of its machine."""
        self._store = store
        self._worker = worker
        self.budget = budget
        self._per_hour = per_hour
        self._clock = clock
        self._begun = clock()
        self._others = 0.0
        self._beats: dict[str, tuple[str, float]] = {}
        """of others: the version that was read, and what it told"""
        self.of_calls = 0.0
        """what this worker's questions to somebody else's model have cost, at most"""
        self.is_priced = per_hour is not None
        """whether anything that it does costs"""

    @property
    def has_limit(self) -> bool:
        return self.budget is not None

    @property
    def of_time(self) -> float:
        return (self._per_hour or 0.0) * (self._clock() - self._begun) / 3600

    def has(self, usd: float) -> bool:
        """So much more, and the time to end."""
        ending = (self._per_hour or 0.0) * END_S / 3600
        return self.budget is None or self._spent + ending + usd <= self.budget

    def over(self, usd: float = 0.0) -> UnfinishedError:
        """The reason to stop."""
        return UnfinishedError(self._why(usd))

    def never_enough(self, usd: float = 0.0) -> UsageError:
        """Nothing was done, and the same command would do nothing again."""
        return UsageError(self._why(usd))

    def _why(self, usd: float) -> str:
        costs = f", and the next question may cost {usd:.2g}" if usd else ""
        return f"--budget {self.budget:g} USD: {self._spent:.4g} are spent{costs}; raise it to go on"

    def told(self, info: Mapping[str, Json]) -> dict[str, Json]:
        """What a worker says of itself, with what its machine costs."""
        told = dict(info)
        if here := self.of_calls + self.of_time:
            told["paid_usd"] = round(here, 6)
        if self._per_hour is not None:
            spent = dict(info.get("spent") or {})
            told["spent"] = {**spent, "cost_usd": round(spent.get("cost_usd", 0.0) + self.of_time, 6)}
        return told

    def look(self) -> None:
        """What others have spent, and this worker before it was started again."""
        found: dict[str, tuple[str, float]] = {}
        for entry in self._store.list(layout.WORKERS):
            if entry.name == layout.worker(self._worker):
                continue
            known = self._beats.get(entry.name)
            if known is None or known[0] != entry.version:
                known = entry.version, _told(self._store.get(entry.name) or b"")
            found[entry.name] = known
        self._beats = found
        self._others = sum(usd for _, usd in found.values())

    def watch(self, closed: threading.Event) -> None:
        """Looks now and then, from a thread, until `closed`."""
        threading.Thread(target=self._watch, args=(closed,), name="purse", daemon=True).start()

    def _watch(self, closed: threading.Event) -> None:
        while not closed.wait(LOOK_S):
            try:
                self.look()
            except WorkerError as error:  # the loop will notice, if that lasts
                log.debug("what others spent is not known: %s", error)

    @property
    def _spent(self) -> float:
        return self._others + self.of_calls + self.of_time


def _told(data: bytes) -> float:
    beat = Beat.decode(data)
    return float(beat.info.get("paid_usd") or 0.0) if beat else 0.0
