"""Looking for work: the inbox first, then a free shard; and when to look no more."""

from __future__ import annotations

import time

from worker.items import Json
from worker.queue.claims import Claims
from worker.queue.holding import Holding
from worker.queue.inbox import Inbox

INBOX_EVERY_S = 15.0


class Looking:
    def __init__(
        self, claims: Claims, inbox: Inbox, *, follow: bool = False, idle_exit_s: float | None = None
    ) -> None:
        self._claims = claims
        self._inbox = inbox
        self._follow = follow
        self._idle_exit_s = idle_exit_s
        self._looked = 0.0
        self._worked = time.monotonic()

    @property
    def poll(self) -> float:
        """How long to wait after a look that found nothing."""
        return self._claims.poll

    def take(self, most: int = 1) -> list[Holding]:
        """In the thread that talks to the store. Several only of what nobody has held yet."""
        if self._claims.rests():
            return []
        now = time.monotonic()
        every = min(INBOX_EVERY_S, self._claims.ttl / 4)
        if now - self._looked >= every or self._claims.finished:
            gap = now - self._looked if self._looked else every
            self._looked = now
            if self._inbox.look(min(gap, every)):
                self._claims.finished = False
        return self._claims.take_many(most)

    def worked(self) -> None:
        self._worked = time.monotonic()

    def goes_on(self, *, busy: bool) -> bool:
        """Busy: a shard is in hand, or may be in a moment."""
        idle = time.monotonic() - self._worked
        if self._idle_exit_s is not None and idle >= self._idle_exit_s:
            return False
        return busy or self._follow or not self._claims.finished or bool(self._inbox.waiting)

    def info(self) -> dict[str, Json]:
        return {"shards": self._claims.shards, "shards_done": self._claims.shards_done}
