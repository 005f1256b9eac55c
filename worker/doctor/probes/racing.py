"""Two conditional writes raced on the real store: what exactly-once rests on."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from urllib.parse import unquote
from uuid import uuid4

from worker.doctor.facts import Queue
from worker.doctor.probes.room import nearest
from worker.errors import WorkerError
from worker.queue.directory import MOUNTS, mount_kind
from worker.queue.store import Store, open_store

RACES = 8
PATIENCE_S = 3.0


def look(url: str) -> Queue:
    """Leaves nothing behind. A folder that is not there yet is tried in the nearest one that is."""
    folder = local(url)
    if folder and (found := file_above(folder)):
        return Queue(url, str(found), "", wrong=f"{found} is a file; name a folder")
    tried = str(nearest(folder)) if folder else url
    mount = mount_kind(Path(tried), MOUNTS.read_text()) if folder and MOUNTS.exists() else ""
    try:
        store = open_store(tried, patience=PATIENCE_S)
        took: list[float] = []
        winners = [_race(store, took) for _ in range(RACES)]
    except WorkerError as error:
        return Queue(url, tried, mount, wrong=str(error))
    return Queue(url, tried, mount, winners, max(took))


def file_above(folder: Path) -> Path | None:
    """What stands where a folder should be, or above it."""
    return next((one for one in (folder, *folder.parents) if one.is_file()), None)


def local(url: str) -> Path | None:
    """A queue's folder, if it is one."""
    scheme, separator, place = url.partition("://")
    if separator and scheme != "file":
        return None
    return Path(unquote(place) if separator else url)


def _race(store: Store, took: list[float]) -> int:
    """How many of two were told that the name is theirs; and none whose bytes are not there counts."""
    name, barrier = f"doctor-{uuid4().hex}", Barrier(2)

    def attempt(data: bytes) -> bool:
        barrier.wait()
        began = time.monotonic()
        won = store.create(name, data)
        took.append(time.monotonic() - began)
        return won

    try:
        with ThreadPoolExecutor(2) as pool:
            bodies = [b"one", b"other"]
            told = list(pool.map(attempt, bodies))
        kept = store.get(name)
        lies = sum(won and body != kept for won, body in zip(told, bodies, strict=True))
        return sum(told) + lies
    finally:
        store.discard(name)
