"""Checkpoints of a job in the queue: which there are, which of them are whole, which one counts.

A checkpoint is its manifest: the files are written first, the manifest last, and it names their hashes.
Its name carries the epoch, so that two workers on one job never write to the same place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from worker.items import Json
from worker.queue import layout
from worker.queue.store import Store
from worker.queue.text import decode, dumps, encode

Place = tuple[int, int]
"""epoch, number within it"""


@dataclass(frozen=True, slots=True)
class StoredFile:
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    epoch: int
    number: int
    step: int
    score: float | None
    files: Mapping[str, StoredFile]
    published: Mapping[str, str] = field(default_factory=dict)
    """what was handed over before it: name → object"""

    @property
    def place(self) -> Place:
        return self.epoch, self.number

    def encode(self) -> bytes:
        """The last key seals the others."""
        record = {
            "epoch": self.epoch,
            "number": self.number,
            "step": self.step,
            "score": self.score,
            "files": {name: [one.size, one.sha256] for name, one in sorted(self.files.items())},
            "published": dict(sorted(self.published.items())),
        }
        return encode({**record, "sha256": _seal(record)})

    @staticmethod
    def decode(data: bytes) -> Manifest | None:
        """None: torn, or not one of ours."""
        try:
            record = decode(data)
            seal = record.pop("sha256")
            if seal != _seal(record):
                return None
            files = {name: StoredFile(int(size), sha) for name, (size, sha) in record.pop("files").items()}
            return Manifest(**record, files=files)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _seal(record: Mapping[str, Json]) -> str:
    return hashlib.sha256(dumps(dict(record)).encode()).hexdigest()


def lineage(whole: Collection[Place], epoch: int, bases: Mapping[int, Place | None]) -> list[Place]:
    """What the holder of `epoch` may go on from, the best first: the newest checkpoint of the newest epoch
    before it, then older ones.

    What an epoch went on from stands in `bases`, and of the epochs before it only that counts, and what is
    older: what a worker still wrote after its job had been taken over is never taken."""
    found: list[Place] = []
    limit: Place | None = (epoch, 0)
    for number in range(epoch - 1, 0, -1):
        if limit is None:
            break  # it began from nothing
        if number <= limit[0]:
            found += sorted((p for p in whole if p[0] == number and p <= limit), reverse=True)
            limit = bases.get(number, limit)
    return found


def kept(own: Sequence[Place], base: Place | None, best: Place | None, keep: int) -> set[Place]:
    """What a holder must not discard: its newest, the best one, and the one that it went on from.

    Before it has `keep` of its own it discards nothing at all."""
    return {place for place in (*sorted(own)[-keep:], base, best) if place}


def places(store: Store, shard: str) -> tuple[list[Place], list[Place]]:
    """Those that have a manifest, and those that were cut off before theirs was written."""
    names = [entry.name for entry in store.list(layout.jobs(shard))]
    whole = {place for name in names if (place := layout.checkpoint_of(name))}
    files = {place for name in names if (place := layout.checkpoint_file_of(name))}
    return sorted(whole), sorted(files - whole)


def read(store: Store, shard: str, place: Place) -> Manifest | None:
    manifest = Manifest.decode(store.get(layout.manifest(shard, *place)) or b"")
    return manifest if manifest and manifest.place == place else None


def read_bases(store: Store, shard: str, epoch: int) -> dict[int, Place | None]:
    """Epoch → what it went on from; of an epoch that never came so far nothing is known."""
    found: dict[int, Place | None] = {}
    for number in range(1, epoch):
        data = store.get(layout.base(shard, number))
        if data is not None:
            with suppress(ValueError, LookupError, TypeError):  # torn: as if it were not there
                place = decode(data)["base"]
                found[number] = (int(place[0]), int(place[1])) if place else None
    return found


def write_base(store: Store, shard: str, epoch: int, base: Place | None) -> None:
    store.create(layout.base(shard, epoch), encode({"base": list(base) if base else None}))


def sweep(store: Store, shard: str, newest: Place, keep: set[Place]) -> None:
    """Discard what is older than `newest` and not to be kept; a manifest before its files."""
    names = [entry.name for entry in store.list(layout.jobs(shard))]
    hidden: list[str] = []
    """a list does not show files like .metadata"""
    for name in names:
        place = layout.checkpoint_of(name)
        if place and place < newest and place not in keep:
            if manifest := read(store, shard, place):
                hidden += [layout.checkpoint_file(shard, *place, file) for file in manifest.files]
            store.discard(name)
    for name in dict.fromkeys(names + hidden):
        place = layout.checkpoint_file_of(name)
        if place and place < newest and place not in keep:
            store.discard(name)


def hash_file(file: Path) -> StoredFile:
    with file.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
    return StoredFile(file.stat().st_size, digest)
