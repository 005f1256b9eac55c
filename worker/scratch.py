"""Room for files that are needed for a moment, on a disk that others use as well."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from worker.errors import ItemError

FOLDER = "worker-scratch-"
"""how a worker's own folder begins, among the temporary files of others"""
ROOM_S = 30.0
"""in which another worker of this machine may free room on its disk"""
SPARE = 20
"""one part in so many of a disk is left to others"""


@dataclass(frozen=True, slots=True)
class Room:
    """How much may be fetched to a place."""

    place: Path
    most_bytes: int | None = None
    """None: what is free"""

    def fits(self, size: int) -> bool:
        """May so many bytes be there at once?"""
        if self.most_bytes is not None and size > self.most_bytes:
            return False
        return size <= free(self.place) + taken(self.place)

    def admit(self, size: int) -> None:
        """Raises if so many bytes more may not come, or cannot. A limit is the same on every machine, and its
        item fails; what happens to be free is the machine's own."""
        if self.most_bytes is not None and size > self.most_bytes:
            most = f"{_gb(self.most_bytes)} may be fetched"
            raise ItemError("too-large", f"{_gb(size)}, and no more than {most}: raise WORKER_SCRATCH")
        until = time.monotonic() + ROOM_S
        while (room := free(self.place)) < size:
            if time.monotonic() >= until:
                raise ItemError(
                    "system",
                    f"{_gb(size)} do not fit into the {_gb(max(0, room))} that are left for temporary files: "
                    "make room, or name a larger disk in TMPDIR",
                )
            time.sleep(0.2)


@contextmanager
def own_folder(place: Path, prefix: str) -> Iterator[Path]:
    """A new one in that place, removed in the end. First go those whose owners were killed."""
    sweep(place, prefix)
    path, lock = _make(place, prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def hold(path: Path) -> int:
    """Nobody else removes it until this is closed, by our death too."""
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    with suppress(OSError):  # a file system without locks: then nobody gets the one that a sweep needs
        fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def sweep(place: Path, prefix: str) -> None:
    for path in place.glob(f"{prefix}*"):
        with suppress(OSError):  # in use, or somebody else's
            _remove_abandoned(path)


def free(place: Path) -> int:
    """Bytes that may still be written there; below zero: too many were."""
    usage = shutil.disk_usage(place)
    return usage.free - usage.total // SPARE


def taken(place: Path) -> int:
    """Bytes of the disk that files below that place have."""
    total = 0
    for root, _, names in os.walk(place):
        for name in names:
            with suppress(OSError):  # it has just gone
                total += os.lstat(Path(root, name)).st_blocks * 512
    return total


def reserve(file: int, size: int) -> None:
    """Takes the room at once, so that two who find enough for one do not both begin."""
    if size:
        os.posix_fallocate(file, 0, size)


def _make(place: Path, prefix: str) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        with suppress(FileNotFoundError):  # it was swept before we held it
            lock = hold(path)
            if path.exists():
                return path, lock
            os.close(lock)


def _remove_abandoned(path: Path) -> None:
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(lock).st_uid == os.geteuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)


def _gb(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
