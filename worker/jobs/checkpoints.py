"""Checkpoints of a job in the queue: which there are, which of them are whole, which one counts.

A checkpoint is its manifest: the files are written first, the manifest last, and it names their hashes.
Its name carries the epoch, so that two workers on one job never write to the same place.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from worker.errors import WorkerError
from worker.items import Json
from worker.queue import layout
from worker.queue.answers import read_done, read_shard
from worker.queue.store import Store
from worker.queue.text import decode, dumps, encode

Place = tuple[int, int]
"""epoch, number within it"""
Spot = tuple[str, Place]
"""and the shard: a retried job has several"""
END: Place = sys.maxsize, 0
ABANDONED_S = 3600.0
"""without a byte: nobody writes that file any more"""

log = logging.getLogger(__name__)


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

    Before it has `keep` of its own, or one, it discards nothing at all."""
    return {place for place in (*sorted(own)[-max(keep, 1) :], base, best) if place}


def history(store: Store, shard: str, after: str, epoch: int | None = None) -> list[Spot]:
    """What the holder of `epoch` may go on from, the best first: of this try of the job, its own included,
    then of the tries before it, as the newest holder of each would have it."""
    found: list[Spot] = []
    for name in tries(store, shard, after):
        whole, cut_off, newest = _left(store, name)
        for place in cut_off:
            log.info("checkpoint %d-%d of %s was cut off and does not count", *place, name)
        holder = epoch if epoch and name == shard else newest
        bases = read_bases(store, name, holder + 1)
        found += [(name, place) for place in lineage(whole, holder + 1, bases)]
    return found


def tries(store: Store, shard: str, after: str) -> Iterator[str]:
    """The shards of a job: this one, and those that it goes on from."""
    yield shard
    while after:
        yield after
        after = read_shard(store, after).items[0].after


def _left(store: Store, shard: str) -> tuple[list[Place], list[Place], int]:
    """Those that have a manifest, those that were cut off before theirs was written, the newest epoch."""
    names = [entry.name for entry in store.list(layout.jobs(shard))]
    whole = {place for name in names if (place := layout.checkpoint_of(name))}
    files = {place for name in names if (place := layout.checkpoint_file_of(name))}
    epochs = (epoch for name in names if (epoch := layout.job_epoch_of(name)))
    return sorted(whole), sorted(files - whole), max(epochs, default=0)


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


def clear(store: Store, shard: str, after: str, keep: int) -> None:
    """Once a job is answered, of all its tries the newest checkpoint and the best one stay; `keep` 0: none.

    What a failed job has made stays: a retry goes on from it."""
    if not all(result.ok for result in read_done(store, shard).answers.values()):
        return
    spots = history(store, shard, after) if keep else []
    manifests = {spot: manifest for spot in spots if (manifest := read(store, *spot))}
    scores = {spot: one.score for spot, one in manifests.items() if one.score is not None}
    kept = {*list(manifests)[:1], *sorted(scores, key=scores.__getitem__)[-1:]}
    for name in tries(store, shard, after):
        tidy(store, layout.jobs(name))
        sweep(store, name, END, {place for holder, place in kept if holder == name})
    tidy(store, layout.FILES, ABANDONED_S)


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


def tidy(store: Store, prefix: str, older_than: float = 0.0) -> None:
    """Free the room of what dead workers left half-written, where we may."""
    try:
        store.sweep(prefix, older_than=older_than)
    except WorkerError as error:
        log.warning("what dead workers left half-written is not removed: %s", error)


def hash_file(file: Path) -> StoredFile:
    with file.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
    return StoredFile(file.stat().st_size, digest)
