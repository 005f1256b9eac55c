"""The cloud's notice that it takes this machine: Azure's scheduled events, read from inside the machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import urljoin

from pydantic import BaseModel

from worker.errors import UsageError

AZURE_URL = "http://169.254.169.254/metadata/scheduledevents?api-version=2020-07-01"
NAME_PATH = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"

ENDINGS = {"Preempt", "Terminate", "Reboot", "Redeploy"}  # a Freeze passes in seconds
NOTICE_S = 30.0
"""what is left when the notice does not say"""
LEAD_S = 60.0
"""earlier than this nobody need stop: a reboot is announced a quarter of an hour ahead"""
TIMEOUT_S = 2.0
SLOWEST_S = 60.0

Tell = Callable[[str, float], None]


def events_url(environment: Mapping[str, str]) -> str | None:
    """Where to ask, or None: only where a person said so, or on a machine of Azure ML."""
    url = environment.get("WORKER_EVENTS_URL") or (AZURE_URL if "AZUREML_RUN_ID" in environment else "off")
    if url == "off":
        return None
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"WORKER_EVENTS_URL is '{url}'; it must begin with http://, or be off")
    return url


def watch_events(url: str, tell: Tell, closed: threading.Event, every: float = 1.0) -> None:
    """Tells from a thread, once for each notice, until `closed`. A service that is away is no error."""
    threading.Thread(target=_watch, args=(url, tell, closed, every), name="evictions", daemon=True).start()


class Event(BaseModel):
    EventType: str
    NotBefore: str | None = None
    """an RFC 1123 date; empty when it has begun"""
    Resources: list[str] = []

    def time_left(self, now: datetime) -> float:
        if self.NotBefore == "":
            return 0.0
        try:
            return max(0.0, (_date(self.NotBefore) - now).total_seconds())
        except (TypeError, ValueError):
            return NOTICE_S


class Events(BaseModel):
    """One answer of the service."""

    DocumentIncarnation: int
    Events: list[Event]

    def first_ending(self, machine: str | None, now: datetime) -> tuple[str, float] | None:
        """The event that ends this machine first, and the seconds until then."""
        endings = [
            (event.time_left(now), event.EventType)
            for event in self.Events
            if event.EventType in ENDINGS and (machine is None or machine in map(str.lower, event.Resources))
        ]
        if not endings:
            return None
        left, kind = min(endings)
        return f"the cloud's notice: {kind}", left


def _watch(url: str, tell: Tell, closed: threading.Event, every: float) -> None:
    machine: str | None = None
    known: int | None = None
    coming: tuple[str, float] | None = None
    """a notice not yet told: what, and when by time.monotonic"""
    pause = every
    while not closed.is_set():
        try:
            text, now = _get(url)
            events = Events.model_validate_json(text)
        except (OSError, ValueError):
            pause = min(pause * 2, SLOWEST_S)
        else:
            pause = every
            if events.DocumentIncarnation != known:
                if known is None:
                    machine = _machine(url)
                known = events.DocumentIncarnation
                ending = events.first_ending(machine, now)
                coming = ending and (ending[0], time.monotonic() + ending[1])
        if coming and coming[1] - time.monotonic() <= LEAD_S:
            tell(coming[0], max(0.0, coming[1] - time.monotonic()))
            coming = None
        closed.wait(pause)


def _machine(url: str) -> str | None:
    """This machine's name as events spell it; None, if unknown, takes every event for ours."""
    try:
        return _get(urljoin(url, NAME_PATH))[0].decode().strip().lower() or None
    except (OSError, ValueError):
        return None


def _get(url: str) -> tuple[bytes, datetime]:
    """The body, and the service's own time: this machine's clock may be wrong."""
    # imported late: few machines have a notice to ask for, and this is a tenth of a worker's start
    import http.client
    import urllib.request

    request = urllib.request.Request(url, headers={"Metadata": "true"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_S) as response:
            text: bytes = response.read(1 << 20)
            date = response.headers["Date"]
    except http.client.HTTPException as error:
        raise OSError("no answer that can be read") from error
    try:
        return text, _date(date)
    except (TypeError, ValueError):
        return text, datetime.now(UTC)


def _date(text: str | None) -> datetime:
    from email.utils import parsedate_to_datetime

    date = parsedate_to_datetime(text or "")
    return date if date.tzinfo else date.replace(tzinfo=UTC)
