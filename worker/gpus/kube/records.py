"""The ledger in a ConfigMap. The API server is the judge: only who read the newest may write the next.

One object holds all of it, so a gang on several nodes is written whole or not at all."""

from __future__ import annotations

import base64
import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from worker.clock import Clock
from worker.gpus.allocation import Allocation, Request, Waiting
from worker.gpus.keeper import Overtaken
from worker.gpus.kube.api import Absent, Api, Away, Conflict, Object
from worker.gpus.kube.book import KEYS, Book, Ended, decode, encode
from worker.gpus.refusals import Reason, Refusal, Said

NAME = "gpu-ledger"
MOST_BYTES = 2**20
"""of a ConfigMap"""
ROOM_BYTES = 900_000
"""beyond which nothing new goes in; who waits must still be granted, and keys be remembered"""
SEEN_S = 30.0
"""how often it is written down that leases run, if nothing else is"""
PATIENCE_S = 10.0

log = logging.getLogger(__name__)
T = TypeVar("T")


class ConfigMapRecords:
    def __init__(self, api: Api, namespace: str, clock: Clock | None = None) -> None:
        self._api = api
        self._folder = f"/api/v1/namespaces/{namespace}/configmaps"
        self._path = f"{self._folder}/{NAME}"
        self._clock = clock or Clock()
        self._me = uuid.uuid4().hex[:8]
        self._turn = 0
        self._book: Book | None = None
        self._last: Book | None = None
        """as it surely was written"""
        self._resource_version = ""
        self._bytes = 0
        self._written = 0.0
        self._changes = 0
        self._dirty = False

    def close(self) -> None:
        """Nothing is open."""

    @property
    def version(self) -> int:
        return self._changes

    @property
    def full(self) -> Said | None:
        if self._bytes <= ROOM_BYTES:
            return None
        number = len(self._held.allocations)
        return Said(
            f"the ledger is full: {number} allocations in {self._bytes} bytes of {MOST_BYTES}",
            f"账本已满：{number} 个分配，{self._bytes}/{MOST_BYTES} 字节",
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._catch_up()
        self._dirty = False
        try:
            yield
            if self._dirty:
                self._write()
        except Overtaken:
            raise
        except BaseException:
            self._book = None
            raise

    def strange(self, inventory: str) -> None:
        """It lies in the cluster that it is that of."""

    def belong_to(self, inventory: str, *, free: bool) -> None:
        """See above."""

    def why(self, name: str) -> str:  # noqa: ARG002
        return ""

    def allocations(self) -> list[Allocation]:
        return list(self._held.allocations.values())

    def waiting(self) -> list[Waiting]:
        return sorted(self._held.waiting.values(), key=lambda one: one.asked)

    def asked_with(self, key: str) -> tuple[str, Request] | None:
        book = self._held
        for made in book.allocations.values():
            if made.key == key:
                return made.id, made.request
        for one in book.waiting.values():
            if one.key == key:
                return one.ticket, one.request
        ended = book.ended.get(key)
        return (ended.id, ended.request) if ended else None

    def spent(self, owner: str) -> tuple[float, float]:
        return self._held.spent.get(owner, (0.0, 0.0))

    def begin(self, made: Allocation) -> None:
        book = self._changed
        book.allocations[made.id] = made
        book.renewals[made.id] = 0

    def renew(self, renewed: Allocation) -> None:
        book = self._changed
        book.allocations[renewed.id] = renewed
        book.renewals[renewed.id] += 1

    def end(self, one: Allocation, now: float, why: str, spent: float) -> None:  # noqa: ARG002
        book = self._changed
        del book.allocations[one.id], book.renewals[one.id]
        book.spent[one.request.owner] = (spent, now)
        if one.key:
            book.ended[one.key] = Ended(one.id, one.request, now)

    def enqueue(self, one: Waiting) -> None:
        self._changed.waiting[one.ticket] = one

    def dequeue(self, ticket: str) -> None:
        del self._changed.waiting[ticket]

    def tick(self, now: float, forget_before: float) -> None:
        book = self._held
        if (book.allocations or book.waiting) and now - self._written >= SEEN_S:
            book = self._changed
        if self._dirty:
            remembered = [(key, one) for key, one in book.ended.items() if one.at >= forget_before]
            book.ended = dict(remembered[-KEYS:])
            book.spent = {owner: spent for owner, spent in book.spent.items() if spent[1] >= forget_before}

    @property
    def _held(self) -> Book:
        assert self._book is not None, "only within a transaction"
        return self._book

    @property
    def _changed(self) -> Book:
        self._dirty = True
        return self._held

    def _catch_up(self) -> None:
        if self._book is not None:
            newest = _patiently(self._newest)
            if newest == self._resource_version:
                return
        _patiently(self._read)

    def _newest(self) -> str:
        try:
            return _version(self._api.get(self._path, metadata_only=True))
        except Absent:
            return ""

    def _read(self) -> None:
        try:
            told = self._api.get(self._path)
        except Absent:
            if self._last and self._last.allocations:
                log.error("%s was deleted: %s allocations are forgotten", NAME, len(self._last.allocations))
            try:
                told = self._api.post(self._folder, self._object(Book()))
            except Conflict:
                told = self._api.get(self._path)
        data = base64.b64decode((told.get("binaryData") or {}).get("ledger", ""))
        now = self._clock.now()
        self._book = decode(data, now, self._last)
        self._last = self._book.copy()
        self._resource_version = _version(told)
        self._bytes = len(data)
        self._written = now
        self._changes += 1

    def _write(self) -> None:
        self._turn += 1
        book = self._held
        book.signed(self._me, self._turn)
        body = self._object(book, self._resource_version)
        try:
            # the same bytes against the same version: however often it is sent, it is taken once at most
            told = _patiently(lambda: self._api.put(self._path, body))
        except (Conflict, Absent) as error:
            _patiently(self._read)
            if self._held.turns.get(self._me) == self._turn:
                return  # it was heard the first time, and the answer lost
            raise Overtaken from error
        self._resource_version = _version(told)
        self._written = self._clock.now()
        self._last = book.copy()

    def _object(self, book: Book, version: str = "") -> Object:
        data = encode(book, self._clock.now())
        self._bytes = len(data)
        metadata: Object = {"name": NAME, "labels": {"app.kubernetes.io/name": "gpu-batch-worker"}}
        if version:
            metadata["resourceVersion"] = version
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "binaryData": {"ledger": base64.b64encode(data).decode()},
        }


def _version(told: Object) -> str:
    return str(told["metadata"]["resourceVersion"])


def _patiently(question: Callable[[], T]) -> T:
    try:
        return Retrying(
            retry=retry_if_exception_type(Away),
            wait=wait_random_exponential(multiplier=0.05, max=1),
            stop=stop_after_delay(PATIENCE_S),
            reraise=True,
        )(question)
    except Away as error:
        raise Refusal(Reason.NOT_READY, why=str(error)) from error
