"""A store in a blob container (Azure, S3, GCS) or in memory, through obstore."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from worker.errors import StoreAwayError, StoreDeniedError, StoreFullError, UsageError
from worker.queue import azure_identity
from worker.queue.store import CHUNK, Entry, Told, pieces

NO_RETRIES: Any = {"max_retries": 0, "retry_timeout": timedelta(0)}  # the store tries again, nobody else
# ... but for the parts of an upload: to it the whole file is one attempt, and that may be 100 GB.
# Each part has a request's time limit, and a second one.
PART_RETRIES: Any = {"max_retries": 10, "retry_timeout": timedelta(seconds=60)}
TIMEOUTS: Any = {"connect_timeout": "5s", "timeout": "30s"}
IN_FLIGHT = 16
REMEDIES = {
    "az": "check the container's name, AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY, "
    "AZURE_STORAGE_SAS_TOKEN or the machine's identity",
    "s3": "check the bucket's name, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "check the bucket's name and GOOGLE_APPLICATION_CREDENTIALS",
    "memory": "",
}
# obstore refuses control characters and what is no Unicode; Azure takes a backslash for a slash.
UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
COMPLETED = "its end was acknowledged to nobody"
"""An upload was completed, the answer was lost, and asking once more the store knows no such upload."""
AnyStore = AzureStore | GCSStore | MemoryStore | S3Store
_memories: dict[str, MemoryStore] = {}


class Bucket:
    """One attempt a call; what obstore says in prose becomes one of our errors."""

    def __init__(self, store: AnyStore, scheme: str, url: str, uploads: AnyStore | None = None) -> None:
        self.url = url
        self._uploads = uploads or store
        """the same, with patience for the parts of a file"""
        self.remedy = REMEDIES[scheme]
        self._store = store
        self._is_known = False

    def create(self, name: str, data: bytes, *, durable: bool = True) -> None:
        del durable  # what a bucket acknowledged stays
        with self._asking(name, writing=True):
            obstore.put(self._store, name, data, mode="create", use_multipart=False)

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """Many requests in flight, for each of them waits for an answer."""

        def one(name: str, data: bytes) -> None:
            try:
                self.create(name, data)
            except FileExistsError:
                # S3 refuses both of two creates at the same moment: then nothing is there yet
                try:
                    self.head(name)
                except FileNotFoundError:
                    raise StoreAwayError("somebody else is writing it") from None

        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            for _ in pool.map(one, *zip(*objects, strict=True)):
                pass

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        del durable
        with self._overwriting(name):
            obstore.put(self._store, name, data, use_multipart=False)

    def upload(self, name: str, file: Path, told: Told) -> None:
        size = file.stat().st_size
        chunk = max(CHUNK, size // 9000)  # S3 takes 10,000 parts at most
        with file.open("rb") as source, self._overwriting(name):
            read = pieces(source, chunk, told)
            if size <= chunk:
                obstore.put(self._uploads, name, b"".join(read), use_multipart=False)
            else:
                obstore.put(self._uploads, name, read, chunk_size=chunk, max_concurrency=2)

    def get(self, name: str) -> bytes:
        with self._asking(name):
            return obstore.get(self._store, name).bytes().to_bytes()

    def read(self, name: str, start: int, length: int) -> bytes:
        if length == 0:  # obstore refuses an empty range
            return b""
        try:
            with self._asking(name):
                return obstore.get_range(self._store, name, start=start, length=length).to_bytes()
        except _BeyondEndError:
            return b""

    def head(self, name: str) -> Entry:
        try:
            with self._asking(name):
                return _entry(obstore.head(self._store, name))
        except FileNotFoundError:
            # The answer to HEAD has no body: no container looks like no object.
            if not self._is_known:
                self.list(name)
            raise

    def list(self, prefix: str) -> list[Entry]:
        with self._asking(prefix):
            chunks = obstore.list(self._store, prefix=prefix or None)
            return [_entry(meta) for chunk in chunks for meta in chunk]

    def discard(self, name: str) -> None:
        with self._asking(name):
            obstore.delete(self._store, name)

    def sweep(self, prefix: str, older_than: float) -> None:
        """A bucket shows nothing that is half-written; what it keeps of it is for its owner to expire."""

    @contextmanager
    def _overwriting(self, name: str) -> Iterator[None]:
        try:
            with self._asking(name, writing=True):
                yield
        except FileExistsError:
            raise StoreAwayError("409 Conflict") from None

    @contextmanager
    def _asking(self, name: str, *, writing: bool = False) -> Iterator[None]:
        if UNWRITABLE.search(name):
            raise UsageError(f"{name!r}: no bucket keeps control characters or a backslash; rename the file")
        try:
            yield
            self._is_known = True
        except AlreadyExistsError:
            raise FileExistsError(name) from None
        except FileNotFoundError as error:
            if "NoSuchUpload" in str(error):
                raise StoreAwayError(COMPLETED) from None
            if writing or re.search(
                r"ContainerNotFound|NoSuchBucket|specified (container|bucket)", str(error)
            ):
                raise StoreDeniedError("no such container") from None
            raise FileNotFoundError(name) from None
        except BaseError as error:
            raise _classify(str(error), is_known=self._is_known) from None


class _BeyondEndError(Exception):
    """A range that starts at the object's end or behind it."""


def open_bucket(scheme: str, place: str) -> Bucket:
    """`place`: container/prefix, for Azure perhaps with ?<SAS token>."""
    place, _, query = place.partition("?")
    container, _, prefix = place.partition("/")
    prefix = prefix.strip("/")
    if "@" in container:
        raise UsageError(f"{scheme}://… has a user or a password in it; give those in the environment")
    if not container:
        raise UsageError(f"{scheme}:// lacks a name; write {scheme}://name/prefix")
    url = f"{scheme}://{container}" + (f"/{prefix}" if prefix else "")
    if query and (scheme != "az" or "sig=" not in query):
        raise UsageError(f"{url}?… ends in a query; only az:// takes one, a SAS token")
    if scheme == "memory":
        return Bucket(_memories.setdefault(url, MemoryStore()), scheme, url)
    try:
        store, uploads = (
            _OPENERS[scheme](container, prefix or None, query, retries)
            for retries in (NO_RETRIES, PART_RETRIES)
        )
        return Bucket(store, scheme, url, uploads)
    except (BaseError, ValueError):
        # The library's own words may quote a key.
        raise UsageError(f"{url} cannot be opened; {REMEDIES[scheme]}") from None


def _azure(container: str, prefix: str | None, sas: str, retries: Any) -> AzureStore:
    config: Any = {"sas_key": sas} if sas else {}
    emulator = os.environ.get("AZURITE_BLOB_STORAGE_URL")
    if emulator:  # as an endpoint, list would ignore its offset
        config["use_emulator"] = True
    endpoint = emulator or os.environ.get("AZURE_STORAGE_ENDPOINT") or os.environ.get("AZURE_ENDPOINT")
    options = _options(endpoint)
    return AzureStore(
        container,
        prefix=prefix,
        config=config,
        client_options=options,
        retry_config=retries,
        credential_provider=None if sas or emulator else azure_identity.of_this_job(os.environ),
    )


def _s3(bucket: str, prefix: str | None, _: str, retries: Any) -> S3Store:
    options = _options(os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT"))
    return S3Store(bucket, prefix=prefix, client_options=options, retry_config=retries)


def _gcs(bucket: str, prefix: str | None, _: str, retries: Any) -> GCSStore:
    return GCSStore(bucket, prefix=prefix, client_options=_options(None), retry_config=retries)


_OPENERS: dict[str, Callable[[str, str | None, str, Any], AzureStore | S3Store | GCSStore]] = {
    "az": _azure,
    "s3": _s3,
    "gs": _gcs,
}


def _options(endpoint: str | None) -> Any:
    return {**TIMEOUTS, "allow_http": (endpoint or "").startswith("http://")}


def _classify(said: str, *, is_known: bool) -> Exception:
    """Which of our errors obstore's prose means; its words are not quoted, for they hold addresses."""
    status = re.search(r"status code: (\d{3}) ?([\w ]*)", said)
    code = re.search(r"<Code>(\w+)</Code>", said)
    number = int(status[1]) if status else 0
    if code and code[1] in ("InvalidBlockList", "NoSuchUpload"):
        return StoreAwayError(COMPLETED)
    if number == 416 or "Wanted range starting" in said:
        return _BeyondEndError()
    about_token = re.search(r"token request|get-access-token|169\.254\.169\.254|metadata\.google", said)
    # A machine without an identity never gets a token; one that was let in before will be again.
    if about_token and not is_known:
        return StoreDeniedError("no credentials")
    reason = _reason(said) if status is None else f"{number} {code[1] if code else status[2].strip()}"
    if number == 507:
        return StoreFullError(reason)
    is_transient = number >= 500 or number in (408, 409, 412, 429) or "<Code>RequestTimeout<" in said
    if about_token or is_transient or (status is None and "redirect" not in said):
        return StoreAwayError(reason)
    return StoreDeniedError(reason)


def _reason(said: str) -> str:
    for words, reason in (
        ("Connection refused", "connection refused"),
        ("TimedOut", "no answer in time"),
        ("dns error", "unknown host"),
        ("Connect,", "no connection"),
        ("without LOCATION", "wrong region"),
    ):
        if words in said:
            return reason
    return "broken connection"


def _entry(meta: obstore.ObjectMeta) -> Entry:
    version = meta["e_tag"] or meta["last_modified"].isoformat()
    # Azure quotes the ETag in a head and not in a list.
    return Entry(meta["path"], meta["size"], version.removeprefix("W/").strip('"'))
