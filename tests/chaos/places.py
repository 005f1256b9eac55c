"""Where a round takes place: each store, and what can go wrong with it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests import servers
from tests.chaos.proxy import Lots, proxy
from tests.servers import Server

DISK = "size=16m"
OF_A_CLOUD = ("AZURE_", "AZURITE_", "AWS_")


class Disk:
    """A small file system of its own, if we may mount one."""

    def __init__(self, folder: Path) -> None:
        self._filler = folder / "filler"
        self.spells = 0

    def fill(self) -> None:
        self.spells += 1
        with suppress(OSError), self._filler.open("wb", buffering=0) as filler:
            while filler.write(bytes(1 << 16)):
                pass

    def empty(self) -> None:
        self._filler.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Place:
    queue: str
    env: Mapping[str, str] = field(default_factory=dict)
    """how workers reach the store; we ourselves go straight to it"""
    lots: Lots | None = None
    disk: Disk | None = None
    note: str = ""
    """what could not be done here"""

    @property
    def faults(self) -> int:
        drawn = self.lots.drawn.total() if self.lots else 0
        return drawn + (self.disk.spells if self.disk else 0)

    def calm(self) -> None:
        """From now on nothing goes wrong any more."""
        if self.lots:
            self.lots.is_on = False
        if self.disk:
            self.disk.empty()


@contextmanager
def directory(folder: Path, _: Lots) -> Iterator[Place]:
    place = folder / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        yield Place(str(place / "queue"), note="no right to mount a file system: the disk was never full")
        return
    try:
        yield Place(str(place / "queue"), disk=Disk(place))
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def azurite(folder: Path, lots: Lots) -> Iterator[Place]:
    with servers.azurite(folder) as server, _behind(server, lots) as place:
        yield place


@contextmanager
def s3(_: Path, lots: Lots) -> Iterator[Place]:
    with servers.s3() as server, _behind(server, lots) as place:
        yield place


PLACES: Mapping[str, Callable[[Path, Lots], AbstractContextManager[Place]]] = {
    "directory": directory,
    "azurite": azurite,
    "s3": s3,
}


@contextmanager
def _behind(server: Server, lots: Lots) -> Iterator[Place]:
    """Workers go through the proxy. What the developer's own environment says of a cloud is put aside."""
    (url,) = (value for value in server.env.values() if value.startswith("http"))
    before = dict(os.environ)
    try:
        for name in before:
            if name.startswith(OF_A_CLOUD):
                del os.environ[name]
        os.environ.update(server.env)
        with proxy(int(url.rpartition(":")[2]), lots) as door:
            theirs = {name: value.replace(url, door.url) for name, value in server.env.items()}
            yield Place(f"{server.fresh()}/queue", theirs, lots)
    finally:
        os.environ.clear()
        os.environ.update(before)
