"""Bytes by name, alike in a folder, in memory and in a blob container: the one place that tries again."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar
from urllib.parse import unquote
from uuid import uuid4

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from worker import signs
from worker.errors import StoreAwayError, StoreDeniedError, StoreFullError, UsageError
from worker.scratch import reserve

log = logging.getLogger("worker.store")
T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 16
"""requests in flight: a blob store answers one by one slowly, many at once gladly"""
MANY = 256
"""objects of one create_all: what is tried again as one, and lies in memory at once"""
CHUNK = 8 << 20
"""bytes a request: small enough for a slow line to send within the time limit of a request"""
FULL_PATIENCE = 30.0
"""seconds in which another process may free room"""
TELL_EVERY = 30.0
SCHEMES = "a folder, file://, memory://NAME, az://container/prefix, s3://bucket/prefix, gs://bucket/prefix"


Told = Callable[[int], None]
"""hears how many bytes of a file were read, at each attempt from none; what it raises ends them"""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a store says of one object."""

    name: str
    size: int
    version: str
    """changes when the content changes"""


class Backend(Protocol):
    """One kind of store, one attempt a call.

    It raises FileExistsError and FileNotFoundError, and for all else StoreAwayError (worth another try),
    StoreFullError or StoreDeniedError with the bare reason; the store makes a sentence of it.
    """

    url: str
    remedy: str
    """what a person does who is refused"""

    def create(self, name: str, data: bytes, *, durable: bool = True) -> None: ...
    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> None: ...
    def put(self, name: str, data: bytes, *, durable: bool = True) -> None: ...
    def get(self, name: str) -> bytes: ...
    def read(self, name: str, start: int, length: int) -> bytes: ...
    def head(self, name: str) -> Entry: ...
    def list(self, prefix: str) -> list[Entry]: ...
    def discard(self, name: str) -> None: ...
    def sweep(self, prefix: str, older_than: float) -> None: ...
    def upload(self, name: str, file: Path, told: Told) -> None: ...


class Patience:
    """How long one call keeps trying, counted from its first failure: a long upload may fail late."""

    def __init__(self, limit: float, clock: Callable[[], float]) -> None:
        self.limit = limit
        self.clock = clock
        self.since: float | None = None
        self.told: float | None = None

    def is_over(self, state: RetryCallState) -> bool:
        now = self.clock()
        if self.since is None:
            self.since = now
        return now - self.since >= self._limit(_error(state))

    def tell(self, state: RetryCallState) -> None:
        now, error = self.clock(), _error(state)
        if self.told is None or now - self.told >= TELL_EVERY:
            self.told = now
            how = "full" if isinstance(error, StoreFullError) else "away"
            log.warning("store %s (%s), trying again for up to %g s", how, error, self._limit(error))

    def _limit(self, error: BaseException | None) -> float:
        return min(self.limit, FULL_PATIENCE) if isinstance(error, StoreFullError) else self.limit


class Store:
    """A backend, with patience and with an answer to "was that my own write?"."""

    def __init__(
        self,
        backend: Backend,
        *,
        patience: float = 20.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = backend.url
        self._backend = backend
        self._patience = patience
        self._sleep = sleep
        self._clock = clock

    def create(self, name: str, data: bytes, *, durable: bool = True) -> bool:
        """Whether the object, absent before, now holds our bytes; False: somebody else's are there.

        Not durable: a power cut may take it back, as nobody minds of a claim (rule 11)."""

        def attempt() -> bool:
            try:
                self._backend.create(name, data, durable=durable)
            except FileExistsError:
                # It may be our own: the acknowledgement of an earlier attempt can have been lost.
                found = _or_none(self._backend.get, name)
                if found is None:  # S3 refuses both of two creates at the same moment
                    raise StoreAwayError("somebody else is writing it") from None
                return found == data
            return True

        return self._ask(name, attempt)

    def create_all(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Many at once, named by their content: whose name is taken is there already."""
        rest = iter(objects)
        while some := list(islice(rest, MANY)):
            for name, _ in some:
                _check(name)
            self._ask(None, partial(self._backend.create_all, some))

    def at_once(self, call: Callable[[T], R], values: Sequence[T]) -> list[R]:
        """Calls that ask this store, many in flight."""
        return at_once(call, values)

    def put(self, name: str, data: bytes, *, retry: bool = True, durable: bool = True) -> None:
        """Overwrite, whole or not at all."""
        self._ask(name, lambda: self._backend.put(name, data, durable=durable), retry=retry)

    def get(self, name: str) -> bytes | None:
        return self._ask(name, lambda: _or_none(self._backend.get, name))

    def read(self, name: str, start: int, length: int) -> bytes:
        """A range, shorter at the end; FileNotFoundError if the object is absent."""
        return self._ask(name, lambda: self._backend.read(name, start, length))

    def head(self, name: str) -> Entry | None:
        return self._ask(name, lambda: _or_none(self._backend.head, name))

    def list(self, prefix: str = "") -> list[Entry]:
        """Everything below a folder-like prefix ("claims/ab12/"), sorted by name."""
        folder = prefix.rstrip("/")
        entries = self._ask(folder or None, lambda: self._backend.list(folder))
        return sorted(entries, key=lambda entry: entry.name)

    def discard(self, name: str) -> None:
        self._ask(name, lambda: _or_none(self._backend.discard, name))

    def sweep(self, prefix: str, *, older_than: float = 0.0) -> None:
        """Remove what writers that died left half-written below a folder-like prefix.

        Who writes after all for longer than so many seconds without a byte has to begin anew."""
        folder = prefix.rstrip("/")
        self._ask(folder, lambda: self._backend.sweep(folder, older_than))

    def upload(self, name: str, file: Path, told: Told = lambda _: None) -> None:
        file.stat()  # a missing file is the caller's mistake, not the store's
        self._ask(name, lambda: self._backend.upload(name, file, told))

    def download(self, name: str, file: Path, admit: Callable[[int], None] | None = None) -> None:
        """The object as a file, whole or not at all; FileNotFoundError if it is absent. `admit` is told its
        size, and may raise, before a byte of it is fetched."""
        temp = file.with_name(f".tmp-{uuid4().hex}")
        try:
            for _ in range(3):
                if self._copy(name, temp, admit):
                    temp.replace(file)
                    return
        finally:
            temp.unlink(missing_ok=True)
        raise StoreAwayError(
            f"{self._where(name)} keeps changing while it is read; run the same command again"
        )

    def _copy(self, name: str, file: Path, admit: Callable[[int], None] | None) -> bool:
        """Range by range, so that a broken line costs one range; False: it changed on the way."""
        before = self.head(name)
        if before is None:
            raise FileNotFoundError(f"{self._where(name)} is not there")
        if admit:
            admit(before.size)
        with file.open("wb") as out:
            reserve(out.fileno(), before.size)
            for start in range(0, before.size, CHUNK):
                out.write(self.read(name, start, CHUNK))
                signs.give()
        return self.head(name) == before

    def _ask(self, name: str | None, attempt: Callable[[], T], *, retry: bool = True) -> T:
        if name is not None:
            _check(name)
        patience = Patience(self._patience if retry else 0.0, self._clock)
        retrying = Retrying(
            retry=retry_if_exception_type((StoreAwayError, StoreFullError)),
            wait=wait_random_exponential(multiplier=0.2, max=8.0),
            stop=patience.is_over,
            before_sleep=patience.tell,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(attempt)
        # `from None`: what a library says of a request may hold its signed address.
        except StoreAwayError as error:
            remedy = "nothing is lost, run the same command again"
            raise StoreAwayError(f"store away ({error}): {self._where(name)}; {remedy}") from None
        except StoreFullError as error:
            remedy = "make room and run the same command again"
            raise StoreFullError(f"store full ({error}): {self._where(name)}; {remedy}") from None
        except StoreDeniedError as error:
            sentence = f"store refuses us ({error}): {self._where(name)}; {self._backend.remedy}"
            raise StoreDeniedError(sentence) from None

    def _where(self, name: str | None) -> str:
        return f"{self.url}/{name}" if name else self.url


def open_store(url: str, *, patience: float = 20.0, make: bool = False, named: bool = False) -> Store:
    """The store at a folder's path or an address; `make` creates the folder if it is absent.

    `named`: a person has named it just now: an absent folder is a mistake; else one that is away.
    """
    scheme, separator, place = url.partition("://")
    if not url.strip():
        raise UsageError(f"the queue has no name; give one of: {SCHEMES}")
    backend: Backend
    # Imported late: a command that only prints help needs neither.
    if not separator or scheme == "file":
        from worker.queue.directory import Directory

        backend = Directory(Path(unquote(place) if separator else url), make=make, named=named)
    elif scheme in ("memory", "az", "s3", "gs"):
        from worker.queue.bucket import open_bucket

        backend = open_bucket(scheme, place)
    else:
        raise UsageError(f"{scheme}:// is no store; give one of: {SCHEMES}")
    return Store(backend, patience=patience)


def at_once(call: Callable[[T], R], values: Sequence[T]) -> list[R]:
    """Many requests in flight, answers in order."""
    return [call(value) for value in values] if len(values) < 2 else list(in_order(call, values))


def in_order(call: Callable[[T], R], values: Iterable[T]) -> Iterator[R]:
    """The same where there are too many to be held: no more answers wait than requests are in flight."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running: deque[Future[R]] = deque()
        for value in values:
            running.append(pool.submit(call, value))
            if len(running) > 2 * AT_ONCE:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def pieces(source: BinaryIO, size: int, told: Told) -> Iterator[bytes]:
    at = 0
    told(at)
    while piece := source.read(size):
        yield piece
        at += len(piece)
        told(at)


def _check(name: str) -> None:
    if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise UsageError(f"{name!r} is no name in a store; use a relative path with '/' and without '..'")


def _or_none(question: Callable[[str], T], name: str) -> T | None:
    try:
        return question(name)
    except FileNotFoundError:
        return None


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
