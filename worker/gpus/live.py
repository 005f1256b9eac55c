"""What people and charts look at: the page, events, figures with their history, and Prometheus."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request
from fastapi.responses import Response

from worker.gpus import docs_page, metrics, page, reports, watched
from worker.gpus.feed import EventStream, Feed
from worker.gpus.glance import Glance
from worker.gpus.manager import GpuResourceManager

MOST_TRACES = 64
"""of cards in an answer"""
DAY = timedelta(days=1)
AT_ONCE = 200
"""entries that are encoded without letting go of the interpreter"""

Cards = Annotated[list[str], Query(max_length=MOST_TRACES, description="these alone, with their history")]
Since = Annotated[datetime | None, Query(description="of the history; a day ago if left out")]
LastId = Annotated[str, Header(max_length=100, description="the last event that the reader has")]


def add_live(app: FastAPI, manager: GpuResourceManager, prefix: str) -> None:
    feed = app.state.feed = Feed(manager.events)
    refused = app.state.refused = Counter[str]()
    _figures(app, manager, prefix)

    @app.get(f"{prefix}/events")
    async def events(last_event_id: LastId = "") -> Response:
        """Server-sent events: made, renewed, ended, waiting, left, ill, well, cards, figures, ready,
        not_ready, and gap when some were missed."""
        return EventStream(feed, last_event_id)

    @app.get("/metrics", include_in_schema=False)
    async def prometheus(request: Request) -> Response:
        glance = await asyncio.wrap_future(manager.ask(Glance.of))
        own = metrics.Own(dict(refused), feed.readers)
        accepted = request.headers.get("accept", "")
        text, kind = await asyncio.to_thread(metrics.exposition, glance, own, accepted)
        return Response(text, media_type=kind)

    @app.get("/", include_in_schema=False)
    async def look(request: Request) -> Response:
        made = page.rendered(request.headers.get("accept-language", ""))
        return Response(made.html, media_type="text/html", headers=made.headers)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        made = docs_page.rendered(app.openapi())
        return Response(made.html, media_type="text/html", headers=made.headers)


def _figures(app: FastAPI, manager: GpuResourceManager, prefix: str) -> None:
    @app.get(f"{prefix}/monitoring", response_model=watched.MonitoringTold)
    async def monitoring(card: Cards = [], since: Since = None) -> Response:  # noqa: B006
        event = manager.events.name(manager.events.last)  # before the look: what comes twice does no harm
        glance = await asyncio.wrap_future(manager.ask(Glance.of))
        return _json(await asyncio.to_thread(told, glance, event, card, since))

    def told(glance: Glance, event: str, cards: Sequence[str], since: datetime | None) -> str:
        found = {**reports.monitoring(glance, cards), "event": event}
        if cards or since:
            begin = _seconds(since or datetime.now(UTC) - DAY)
            found["history"] = manager.watch.history.of(cards, begin)
            found["history_all"] = manager.watch.history.of_all(begin)
        return _encoded(found)

    @app.get(f"{prefix}/allocations", response_model=watched.AllocationsTold)
    async def allocations() -> Response:
        """Who holds what, and who waits."""
        event = manager.events.name(manager.events.last)
        glance = await asyncio.wrap_future(manager.ask(Glance.of))
        found = await asyncio.to_thread(lambda: _encoded({**reports.held(glance), "event": event}))
        return _json(found)


def _seconds(when: datetime) -> float:
    try:
        return when.replace(tzinfo=when.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):  # the year 1 without a zone
        return 0.0


def _encoded(told: Mapping[str, Any]) -> str:
    parts = []
    for key, value in told.items():
        if isinstance(value, list):
            some = (json.dumps(value[at : at + AT_ONCE])[1:-1] for at in range(0, len(value), AT_ONCE))
            parts.append(f'"{key}":[{",".join(some)}]')
        else:
            parts.append(f'"{key}":{json.dumps(value)}')
    return "{" + ",".join(parts) + "}"


def _json(told: str) -> Response:
    return Response(told, media_type="application/json")
