"""Events as a stream that a browser follows (server-sent events)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from worker.gpus.events import Events

PAUSE_S = 0.2
"""between two looks: what happened meanwhile goes out together, the same bytes to all readers"""
BEAT_S = 15.0
"""without a word, after which a comment says that somebody is here"""
PATIENCE_S = 10.0
"""with a reader who does not take what he is sent"""
BACK_MS = 2000

log = logging.getLogger(__name__)


class Feed:
    def __init__(self, events: Events) -> None:
        self._events = events
        self._tick: asyncio.Task[None] | None = None
        self._closed = False
        self.readers = 0

    def close(self) -> None:
        """The server stops: readers who stay would hold it up."""
        self._closed = True

    async def read(self, after: str, is_gone: Callable[[], bool]) -> AsyncIterator[bytes]:
        """`after`: the last that the reader has; empty: only what comes."""
        seen, silent_s = self._events.last, 0.0
        yield f"retry: {BACK_MS}\n: the last event was {self._events.name(seen)}\n\n".encode()
        if after:
            asked = self._events.number(after)
            if asked is None or self._events.since(asked) is None:
                yield self._word("gap", seen)
            else:
                seen = asked
        while not self._closed and not is_gone():
            found = self._events.since(seen)
            if found is None:
                log.warning("a reader of events was dropped: it fell behind more than is kept")
                yield self._word("dropped", self._events.last)
                return
            seen, lines = found
            silent_s = 0.0 if lines else silent_s + PAUSE_S
            if silent_s >= BEAT_S:
                lines, silent_s = b": nothing happened\n\n", 0.0
            if lines:
                yield lines
            await self._pause()

    async def _pause(self) -> None:
        """All wake together, so that they stand alike."""
        if self._tick is None or self._tick.done():
            self._tick = asyncio.ensure_future(asyncio.sleep(PAUSE_S))
        await asyncio.shield(self._tick)

    def _word(self, kind: str, last: int) -> bytes:
        name = self._events.name(last)
        return f'id: {name}\nevent: {kind}\ndata: {{"event":"{name}"}}\n\n'.encode()


class EventStream(Response):
    media_type = "text/event-stream"

    def __init__(self, feed: Feed, after: str) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._feed = feed
        self._after = after

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_gone(receive))
        self._feed.readers += 1
        try:
            async with asyncio.timeout(PATIENCE_S):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for lines in self._feed.read(self._after, gone.done):
                async with asyncio.timeout(PATIENCE_S):
                    await send(_body(lines, more=True))
            await send(_body(b"", more=False))
        except TimeoutError:
            log.warning("a reader of events was dropped: it took nothing for %g s", PATIENCE_S)
        finally:
            self._feed.readers -= 1
            gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _body(lines: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": lines, "more_body": more}
