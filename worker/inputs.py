"""Inputs where they lie: found below a root, known by a cheap mark, opened on the machine that needs them."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from worker.errors import ItemError, UsageError, WorkerError
from worker.items import Item
from worker.scratch import Room, own_folder

if TYPE_CHECKING:
    from worker.queue.store import Store
    from worker.queue.superseded import LiesThere

log = logging.getLogger(__name__)

NOT_FOUND = frozenset({"absent", "changed", "not-a-file"})
"""failures that say where the file lay there was none, or another one"""
MARK_WHOLE = 48 * 1024
MARK_BLOCK = 16 * 1024
OTHER = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def is_url(location: str) -> bool:
    return "://" in location and not location.startswith("file://")


def clean(path: str) -> str:
    """Absolute, without "..": so that what lies below it begins with it."""
    return os.path.normpath(Path(path).absolute())


def mark(size: int, read: Callable[[int, int], bytes]) -> str:
    """A cheap fingerprint of a content: all of a small one; the size and three blocks of a large one."""
    digest = hashlib.sha256(str(size).encode())
    if size <= MARK_WHOLE:
        digest.update(read(0, size))
    else:
        for start in (0, (size - MARK_BLOCK) // 2, size - MARK_BLOCK):
            digest.update(read(start, MARK_BLOCK))
    return digest.hexdigest()[:16]


def inside(input: str) -> bool:
    """Is this a path that stays below its root?"""
    path = PurePosixPath(input)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in input and input not in ("", ".")


@dataclass(frozen=True, slots=True)
class Known:
    """What identifies an input's content."""

    size: int
    mark: str


class Root:
    """One place that inputs lie below: a folder of this machine, or a blob prefix."""

    def __init__(self, location: str) -> None:
        self.location = location if is_url(location) else clean(location.removeprefix("file://"))
        self._opened: Store | None = None
        self._told: set[str] = set()

    def present(self) -> bool:
        return is_url(self.location) or Path(self.location).is_dir()

    def alive(self) -> bool:
        """There, and not the empty folder that is left when a disk is not mounted."""
        return is_url(self.location) or (self.present() and any(os.scandir(self.location)))

    def know(self, input: str) -> Known | None:
        """None: there is no such file."""
        if is_url(self.location):
            entry = self._store().head(input)
            if entry is None:
                return None
            return Known(entry.size, mark(entry.size, lambda start, n: self._store().read(input, start, n)))
        path = self._path(input)
        if not path.is_file():
            return None
        return know_file(path)

    def other(self, input: str) -> str:
        """What lies there instead of a file; "": nothing does."""
        if is_url(self.location):
            return ""
        try:
            return OTHER.get(stat.S_IFMT(self._path(input).stat().st_mode), "")
        except OSError:
            return ""

    def below(self, unread: Callable[[OSError], None]) -> Iterator[str]:
        """Every file below the root, in order; hidden ones are left out. `unread`: told of a folder that
        cannot be listed, which is not an empty one."""
        if is_url(self.location):
            yield from (e.name for e in self._store().list("") if not _hidden(e.name))
            return
        for folder, folders, files in os.walk(self.location, onerror=unread, followlinks=False):
            if "final_results.json" in files or ("run.json" in files and "items" in folders):
                self._tell_once(f"{folder} holds a run of ours and is left out")
                folders.clear()
                continue
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            for linked in (f for f in folders if (Path(folder) / f).is_symlink()):
                self._tell_once(f"{Path(folder) / linked} is a link to a folder and left out: name it itself")
            under = folder[len(self.location) :].strip("/")
            for name in sorted(files):
                if not name.startswith("."):
                    yield f"{under}/{name}" if under else name

    def _tell_once(self, message: str) -> None:
        """A folder that is followed is listed every second."""
        if message not in self._told:
            self._told.add(message)
            log.warning("%s", message)

    @contextmanager
    def open(
        self, input: str, scratch: Path, admit: Callable[[int], None], beside: Sequence[str] = ()
    ) -> Iterator[Path]:
        """The file on this machine; a blob, if its size is admitted, is fetched into scratch and deleted
        afterwards, and with it those `beside` it that there are."""
        if not is_url(self.location):
            yield self._path(input)
            return
        with own_folder(scratch, "input-") as own:
            path = own / PurePosixPath(input).name
            self._store().download(input, path, admit)
            for other in beside:
                with suppress(FileNotFoundError):
                    self._store().download(other, path.with_name(PurePosixPath(other).name), admit)
            yield path

    def _path(self, input: str) -> Path:
        path = Path(self.location, input)
        try:
            resolved = path.resolve()
        except RuntimeError:
            raise ItemError("unreadable", f"{input} is a link that leads to itself") from None
        if not resolved.is_relative_to(Path(self.location).resolve()):
            raise ItemError(
                "outside-root",
                f"{input} leads out of the root: copy the file in, or name a wider --root",
            )
        return path

    def _store(self) -> Store:
        if self._opened is None:
            from worker.queue.store import open_store

            self._opened = open_store(self.location)
        return self._opened


def know_file(path: Path) -> Known:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return Known(size, mark(size, lambda start, n: os.pread(file.fileno(), n, start)))


@dataclass(frozen=True)
class OpenInput:
    """Opens an item's file, wherever on this machine it lies. Picklable: child processes use it."""

    roots: tuple[str, ...]
    scratch: Path
    queue: str | None = None
    """where other roots may have been recorded meanwhile"""
    most_bytes: int | None = None
    """that fetched inputs may take of the disk; None: what is free"""

    @contextmanager
    def __call__(self, item: Item) -> Iterator[Item]:
        if not inside(item.input):
            raise ItemError("outside-root", f"{item.input} leads out of its root")
        with ExitStack() as stack:
            try:
                path = stack.enter_context(
                    self._root_of(item).open(item.input, self.scratch, self._room.admit, item.beside)
                )
                is_same = not item.mark or know_file(path).mark == item.mark
            except (OSError, WorkerError) as error:
                raise _fault(error, item.input) from error
            if not is_same:
                raise ItemError("changed", "it changed while it was fetched: enqueue it again")
            yield replace(item, file=path)

    def fits(self, size: int) -> bool:
        """May inputs of so many bytes be open at once?"""
        if not any(map(is_url, self.roots)):
            return True
        return self._room.fits(size)

    @property
    def _room(self) -> Room:
        return Room(self.scratch, self.most_bytes)

    def _root_of(self, item: Item) -> Root:
        """The root that has just this content; a root that came to the queue meanwhile is found too."""
        try:
            return _search(item, self.roots)
        except ItemError:
            later = _later_roots(self.queue) if self.queue else ()
            if set(later) <= set(self.roots):
                raise
            return _search(item, later)


def _search(item: Item, places: Sequence[str]) -> Root:
    found: Known | None = None
    gone = ""
    for location in places:
        root = _root(location)
        known = root.know(item.input)
        if known and (not item.mark or known == Known(item.size, item.mark)):
            return root
        found = known or found
        gone = gone or (location if known is None and not root.alive() else "")
    if gone:
        raise ItemError("store", f"{gone} is gone from this machine, or empty: mount it again")
    # the messages name no folder of this machine: results are the same wherever they were made
    if found:
        message = f"not what was enqueued ({item.size} bytes then, {found.size} now): enqueue it again"
        raise ItemError("changed", message)
    if other := _other(item.input, places):
        raise ItemError("not-a-file", f"it is {other}: put a file there, and enqueue it again")
    raise ItemError("absent", "no such file below the root: put it back, or say where with --root")


def _other(input: str, places: Sequence[str]) -> str:
    return next(filter(None, (_root(location).other(input) for location in places)), "")


_roots: dict[str, Root] = {}


def _root(location: str) -> Root:
    """One Root, and one connection, per location and process."""
    return _roots.setdefault(location, Root(location))


def _later_roots(queue: str) -> tuple[str, ...]:
    from worker.queue.intake import roots
    from worker.queue.store import open_store

    return tuple(place for place in roots(open_store(queue)) if Root(place).present())


def lies_there(places: Mapping[str, str], origins: Mapping[str, Collection[str]]) -> LiesThere:
    """Has an item's file its content still? None: a root that it may have lain below has no such file now.

    `places`: the recorded roots, and where they are. `origins`: by shard, those that its files came from."""
    roots = {name: Root(location) for name, location in places.items()}

    def known(root: Root, input: str) -> Known | None:
        try:
            return root.know(input)
        except (OSError, WorkerError, ItemError):
            return None

    def ask(item: Item, shards: Collection[str]) -> bool | None:
        found = {name: known(root, item.input) for name, root in roots.items()}
        if Known(item.size, item.mark) in found.values():
            return True
        lay = {name for shard in shards for name in origins.get(shard, roots)}
        return None if any(found.get(name) is None for name in lay) else False

    return ask


def is_of_the_file(error: OSError) -> bool:
    """Another machine would fare no better; all else speaks of this machine's disk or network."""
    return error.errno in (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)


def _fault(error: OSError | WorkerError, input: str) -> ItemError:
    if isinstance(error, FileNotFoundError):
        return ItemError("absent", f"{input} vanished while it was fetched: put it back")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ItemError("system", f"{input}: {error.strerror}")
    if isinstance(error, OSError):
        return ItemError("unreadable" if is_of_the_file(error) else "store", f"{input}: {error.strerror}")
    return ItemError("unreadable" if isinstance(error, UsageError) else "store", str(error))


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def present_roots(recorded: Sequence[str], chosen: str | None) -> tuple[str, ...]:
    """Where this machine finds the inputs: what it was told, else every recorded place that it has."""
    if chosen:
        if not Root(chosen).present():
            raise UsageError(f"--root {chosen} is not a folder of this machine")
        return (Root(chosen).location,)
    here = tuple(location for location in recorded if Root(location).present())
    if recorded and not here:
        raise UsageError(
            f"the inputs lie below {' or '.join(recorded)}, which this machine does not have: "
            "say where they are with --root DIR"
        )
    return here
