"""All objects of a kind as the API server last told them: listed once, then followed."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Generic, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from worker.clock import Clock
from worker.errors import MachineError
from worker.gpus.kube.api import Absent, Api, Away, Gone, Object

PAGE = 500
STREAM_S = 60.0
"""after which the server ends a stream, and the next goes on where it was"""
SILENCE_S = STREAM_S + 15
"""after which the connection counts as lost"""
GRACE_S = 20.0
"""that one may be cut off before nothing is handed out"""

log = logging.getLogger(__name__)
T = TypeVar("T")


class Mirror(Generic[T]):
    def __init__(
        self,
        api: Api,
        path: str,
        read: Callable[[Object], T | None],
        query: Mapping[str, object] | None = None,
    ) -> None:
        """`read`: what is kept of an object; None: nothing."""
        self._api = api
        self._path = path
        self._read = read
        self._query = dict(query or {})
        self._version = ""
        self._found: dict[str, T] = {}
        self._lock = threading.Lock()
        self._listed = threading.Event()
        self._closing = threading.Event()
        self._trouble: tuple[float, str] | None = (0.0, "not read yet")
        self._clock = Clock()

    def follow(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        threading.Thread(target=self._follow, name=f"mirror {self._path}", daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        self._listed.set()

    def found(self, patience_s: float) -> Collection[T]:
        """Refused with the reason if it cannot be known now."""
        self._listed.wait(patience_s)
        trouble = self._trouble
        if trouble and self._clock.now() - trouble[0] > GRACE_S:
            raise MachineError(f"{self._path}: {trouble[1]}")
        with self._lock:
            return list(self._found.values())

    def _follow(self) -> None:
        while not self._closing.is_set():
            Retrying(
                retry=retry_if_exception_type(Exception),
                wait=wait_random_exponential(multiplier=0.1, max=10),
                stop=stop_when_event_set(self._closing),
                sleep=sleep_using_event(self._closing),
                before_sleep=self._worry,
                retry_error_callback=lambda _: None,
            )(self._once)

    def _once(self) -> None:
        try:
            if not self._version:
                self._list()
            query = {
                **self._query,
                "resourceVersion": self._version,
                "allowWatchBookmarks": "true",
                # not all at the same moment
                "timeoutSeconds": int(STREAM_S * random.uniform(0.7, 1.0)),
            }
            events = self._api.watch(self._path, query, SILENCE_S)
            self._well()
            for event in events:
                self._take(event)
                if self._closing.is_set():
                    return
        except Gone:
            self._version = ""
        except (Away, Absent, MachineError):
            raise
        except Exception:  # an object that is not understood: nothing is handed out by what was read before
            self._version = ""
            raise
        self._closing.wait(0.05)  # a server that ends every stream at once

    def _list(self) -> None:
        found: dict[str, T] = {}
        after = ""
        while True:
            page = self._api.get(self._path, {**self._query, "limit": PAGE, "continue": after})
            for told in page.get("items") or ():
                if (kept := self._read(told)) is not None:
                    found[told["metadata"]["uid"]] = kept
            after = page["metadata"].get("continue", "")
            if not after:
                break
        with self._lock:
            self._found = found
        self._version = page["metadata"]["resourceVersion"]
        self._well()
        self._listed.set()
        self._changed()

    def _take(self, event: Object) -> None:
        kind, told = event["type"], event["object"]
        if kind == "ERROR":
            raise Gone if told.get("code") == 410 else Away(f"the API server: {told.get('message')}")
        self._version = told["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return
        name, kept = told["metadata"]["uid"], None if kind == "DELETED" else self._read(told)
        with self._lock:
            before = self._found.pop(name, None)
            if kept is not None:
                self._found[name] = kept
        if before != kept:
            self._changed()

    def _well(self) -> None:
        if self._trouble:
            self._trouble = None
            self._changed()

    def _worry(self, state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        known = isinstance(error, (Away, Absent, MachineError))
        said = str(error) if known else f"{type(error).__name__}: {error}"
        if self._trouble is None:
            log.warning("%s: %s", self._path, said)
        self._trouble = (self._trouble[0] if self._trouble else self._clock.now(), said)
