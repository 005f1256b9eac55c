"""A folder's files on their way into a store: many at once, and what is there already stays.

Beside them lies a note of what each file is like, and which object it replaces, written before the first byte
is sent: so who was interrupted goes on, and a file that changed meanwhile is sent again."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from worker.clock import Clock
from worker.duration import spoken
from worker.errors import UsageError
from worker.inputs import Root, is_url, know_file, mark
from worker.queue.store import AT_ONCE, Entry, Store, at_once, open_store
from worker.queue.text import decode, encode

if TYPE_CHECKING:
    from worker.launch.launcher import Say

NOTES = ".sent.json"
"""hidden, so that nobody takes it for an input"""
PATIENCE_S = 120.0
EVERY_S = 5.0
TRIES = 3
"""of a file that changes while it is read"""


@dataclass(frozen=True, slots=True)
class Sent:
    sent: int
    there: int
    """that were there already"""
    bytes: int
    """of those that were sent"""


@dataclass(frozen=True, slots=True)
class Note:
    """What a file was like when it was to be sent."""

    size: int
    changed: int
    """its time, in ns"""
    replaces: str = ""
    """the version of the object that lay there, and is to go"""


def upload(files: Path, to: str, say: Say, clock: Clock | None = None) -> Sent:
    """A folder, or one file, to an address or a folder. Hidden files and links to folders stay behind, as
    when they are enqueued."""
    root = files if files.is_dir() else files.parent
    if not files.exists():
        raise UsageError(f"{files}: no such file or folder")
    if not is_url(to) and Path(to).resolve().is_relative_to(files.resolve()):
        raise UsageError(f"{to} lies in {files} itself: send it elsewhere")
    left: dict[str, str] = {}
    found = dict(_found(files, root, left))
    if not found and not left:
        raise UsageError(f"{files} holds no files")
    store = open_store(to, make=True, patience=PATIENCE_S)
    noted, there = _notes(store), {entry.name: entry for entry in store.list()}
    known = {name: verdict(note, there.get(name), noted.get(name)) for name, note in found.items()}
    alike = _alike(store, root, {name: there[name] for name, so in known.items() if so is None})
    wanted = {name: found[name] for name, so in known.items() if not (so or name in alike)}
    kept = noted | {name: found[name] for name in alike}
    if wanted:
        planned = {name: replace(note, replaces=_version(there.get(name))) for name, note in wanted.items()}
        _put_notes(store, kept | planned)
    sending = _Sending(store, root, wanted, clock or Clock())
    sending.all(say)
    if wanted or alike:
        _put_notes(store, kept | sending.sent)
    left |= sending.left
    sent = Sent(len(sending.sent), len(found) - len(wanted), sum(one.size for one in sending.sent.values()))
    say(_told(store.url, sent, sending.seconds))
    if left:
        name, why = next(iter(left.items()))
        rest = f" and {len(left) - 1:,} more" if len(left) > 1 else ""
        raise UsageError(f"not sent: {name!r}{rest}: it {why}; the others are there, so run it again then")
    return sent


def verdict(file: Note, entry: Entry | None, noted: Note | None) -> bool | None:
    """Is this file there? None: something of its size is, and nobody noted what."""
    if entry is None or entry.size != file.size:
        return False
    if noted is None:
        return None
    return (noted.size, noted.changed) == (file.size, file.changed) and entry.version != noted.replaces


class _Sending:
    """Many threads, one file each."""

    def __init__(self, store: Store, root: Path, files: Mapping[str, Note], clock: Clock) -> None:
        self.sent: dict[str, Note] = {}
        self.left: dict[str, str] = {}
        """name → why not"""
        self._store = store
        self._root = root
        self._files = files
        self._clock = clock
        self._began = clock.now()
        self._bytes = sum(note.size for note in files.values())
        # the large ones first, or the last one would be waited for alone
        self._queue = iter(sorted(files, key=lambda name: -files[name].size))
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._under_way: dict[str, int] = {}
        """name → bytes that were read"""

    @property
    def seconds(self) -> float:
        return self._clock.now() - self._began

    def all(self, say: Say) -> None:
        """Until all are sent; what the store refuses ends them all."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            running = {pool.submit(self._work) for _ in range(min(AT_ONCE, len(self._files)))}
            try:
                while running:
                    done, running = wait(running, EVERY_S, FIRST_EXCEPTION)
                    for one in done:
                        one.result()
                    if not done:
                        say(self._progress())
            finally:
                self._stopped.set()

    def _work(self) -> None:
        while (name := self._next()) is not None:
            try:
                self._send(name)
            except (OSError, UsageError) as error:  # of the file; the store's are others
                self.left[name] = f"cannot be sent ({getattr(error, 'strerror', None) or error})"
            self._under_way.pop(name, None)

    def _next(self) -> str | None:
        with self._lock:
            return None if self._stopped.is_set() else next(self._queue, None)

    def _send(self, name: str) -> None:
        path = self._root / name

        def told(at: int) -> None:
            if self._stopped.is_set():
                raise _StoppedError
            self._under_way[name] = at

        for _ in range(TRIES):
            before = _note(path)
            self._store.upload(name, path, told)
            if _note(path) == before:
                self.sent[name] = before
                return
        self.left[name] = "keeps changing while it is read"

    def _progress(self) -> str:
        files, done = len(self.sent), sum(one.size for one in [*self.sent.values()])
        done += sum([*self._under_way.values()])
        rate = done / self.seconds
        left = f", about {spoken(max(self._bytes - done, 0) / rate)} left" if rate else ""
        return (
            f"{files:,} of {len(self._files):,} files, {_size(done)} of {_size(self._bytes)}, "
            f"{_size(rate)}/s{left}"
        )


class _StoppedError(Exception):
    """Somebody does not want them all any more."""


def _found(files: Path, root: Path, left: dict[str, str]) -> Iterator[tuple[str, Note]]:
    def unread(error: OSError) -> None:
        left[str(error.filename)] = f"cannot be read ({error.strerror})"

    within = root.resolve()
    for name in Root(str(root)).below(unread) if files.is_dir() else [files.name]:
        path = root / name
        try:
            name.encode()
            if not path.resolve().is_relative_to(within):
                left[name] = f"is a link that leads out of {root}: copy the file in"
            elif not stat.S_ISREG(path.stat().st_mode):
                left[name] = "is no file"
            else:
                yield name, _note(path)
        except UnicodeEncodeError:
            left[name] = "has a name that is not UTF-8: rename it"
        except (OSError, RuntimeError) as error:
            left[name] = f"cannot be read ({getattr(error, 'strerror', None) or error})"


def _note(path: Path) -> Note:
    about = path.stat()
    return Note(about.st_size, about.st_mtime_ns)


def _alike(store: Store, root: Path, entries: Mapping[str, Entry]) -> set[str]:
    """Of those that somebody else brought: the ones that enqueue takes for the same."""

    def is_alike(name: str) -> bool:
        size = entries[name].size
        return mark(size, lambda start, n: store.read(name, start, n)) == know_file(root / name).mark

    names = [*entries]
    return {name for name, so in zip(names, at_once(is_alike, names), strict=True) if so}


def _notes(store: Store) -> dict[str, Note]:
    """What is no note of ours says nothing."""
    try:
        return {name: Note(*one) for name, one in decode(store.get(NOTES) or b"{}").items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _put_notes(store: Store, notes: Mapping[str, Note]) -> None:
    store.put(NOTES, encode({name: list(astuple(note)) for name, note in notes.items()}))


def _version(entry: Entry | None) -> str:
    return entry.version if entry else ""


def _told(url: str, sent: Sent, seconds: float) -> str:
    there = f", {sent.there:,} were there already" if sent.there else ""
    rate = f" in {spoken(seconds)} ({_size(sent.bytes / max(seconds, 1e-3))}/s)" if sent.sent else ""
    return f"{url}: {sent.sent:,} files, {_size(sent.bytes)} sent{rate}{there}"


def _size(amount: float) -> str:
    """640 MB"""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if amount >= size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount:.0f} bytes"
