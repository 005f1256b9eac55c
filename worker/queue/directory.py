"""A store in a folder, on a local disk or NFS: what was acknowledged survives a power cut."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from worker.errors import StoreAwayError, StoreDeniedError, StoreFullError, UsageError
from worker.queue.store import Entry, Told, pieces

TEMP = ".tmp-"
OURS = re.compile(re.escape(TEMP) + "[0-9a-f]{32}")
MOUNTS = Path("/proc/self/mounts")
# Without a create that fails if present, or with a cache that shows stale bytes, claims are not exclusive.
REFUSED = re.compile(
    r"cifs|smb3|smbfs|fuse\.(blobfuse.*|s3fs|gcsfuse|goofys|rclone|mount-s3|mountpoint-s3|geesefs)"
)
FULL = {errno.ENOSPC, errno.EDQUOT}
AWAY = {
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ENOTCONN),
    *(errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EREMOTEIO),
    *(errno.ENETUNREACH, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK}
SYNCS_AT_ONCE = 16
"""a disk, and even more a server of files, makes one write of many that wait"""
AT_FDCWD = -100
RENAME_NOREPLACE = 1


class Directory:
    """Objects are files; a name appears only when its bytes are on the disk."""

    remedy = "check that the folder is there, and that you may write to it"

    def __init__(
        self, root: Path, *, make: bool = False, named: bool = False, mounts: str | None = None
    ) -> None:
        self.root = root.absolute()
        self.url = str(root)
        refuse_mount(self.root, MOUNTS.read_text() if mounts is None and MOUNTS.exists() else mounts or "")
        if make:
            try:
                missing = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
                self.root.mkdir(parents=True, exist_ok=True)
                for folder in missing:
                    _sync(folder.parent)
            except OSError as error:
                raise UsageError(f"{self.url}: {error.strerror}; give a folder that can be made") from None
        if named and not self.root.is_dir():
            raise UsageError(f"{self.url}: no such folder; make it, or check the path")
        self._durable: set[Path] = set()

    def create(self, name: str, data: bytes, *, durable: bool = True) -> None:
        self._write(name, lambda out: _write_all(out, data), _place_new, durable)

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        self._write(name, lambda out: _write_all(out, data), os.replace, durable)

    def upload(self, name: str, file: Path, told: Told) -> None:
        with file.open("rb") as source:
            self._write(name, lambda out: _write_pieces(out, source, told), os.replace, True)

    def get(self, name: str) -> bytes:
        with self._reading():
            return (self.root / name).read_bytes()

    def read(self, name: str, start: int, length: int) -> bytes:
        with self._reading(), (self.root / name).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def head(self, name: str) -> Entry:
        with self._reading():
            found = _entry(name, (self.root / name).stat())
            if found is None:
                raise FileNotFoundError(name)
            return found

    def list(self, prefix: str) -> list[Entry]:
        with self._reading():
            if not self.root.is_dir():
                raise FileNotFoundError(prefix)
            return [*_walk(self.root / prefix, f"{prefix}/" if prefix else "")]

    def discard(self, name: str) -> None:
        with self._reading():
            (self.root / name).unlink()

    def sweep(self, prefix: str, older_than: float) -> None:
        """Ages by the clock of who serves the files: that of a file made just now."""
        folder = self.root / prefix
        with _classified(), suppress(FileNotFoundError):
            temps = [temp for temp in folder.rglob(f"{TEMP}*") if OURS.fullmatch(temp.name)]
            if temps:
                probe = folder / f"{TEMP}{uuid4().hex}"
                probe.touch()
                now = probe.stat().st_mtime
                for temp in (*temps, probe):
                    with suppress(FileNotFoundError):
                        if now - temp.stat().st_mtime >= older_than or temp == probe:
                            temp.unlink()

    def _write(
        self,
        name: str,
        fill: Callable[[BinaryIO], None],
        place: Callable[[Path, Path], None],
        durable: bool,
    ) -> None:
        """Temp file in the target's folder → fsync → its name → fsync of the folder."""
        target = self.root / name
        with self._writing([target], durable) as [temp]:
            _fill(temp, fill, durable)
            place(temp, target)

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """Temp files synced side by side → their names → one fsync of each folder."""
        targets = [self.root / name for name, _ in objects]
        with self._writing(targets, True) as temps:
            with ThreadPoolExecutor(SYNCS_AT_ONCE) as pool:
                fills = [
                    pool.submit(_fill, t, partial(_write_all, data=d), True)
                    for t, (_, d) in zip(temps, objects, strict=True)
                ]
            for fill in fills:
                fill.result()
            for temp, target in zip(temps, targets, strict=True):
                with suppress(FileExistsError):
                    _place_new(temp, target)

    @contextmanager
    def _writing(self, targets: Sequence[Path], durable: bool) -> Iterator[Sequence[Path]]:
        """Temporary names beside the targets; they are gone, and the folders synced, whatever happens."""
        folders = {target.parent for target in targets}
        temps = [target.with_name(TEMP + uuid4().hex) for target in targets]
        with _classified():
            try:
                for folder in folders:
                    self._make(folder, durable)
                yield temps
            except FileNotFoundError:
                self._durable.clear()
                raise StoreAwayError("the folder vanished") from None
            finally:
                for temp in temps:
                    with suppress(OSError):
                        temp.unlink(missing_ok=True)
                # Also after "exists": the loser may read its own lost write and call it acknowledged.
                for folder in folders & self._durable if durable else ():
                    _sync(folder)

    def _make(self, folder: Path, durable: bool) -> None:
        """The folder, durable up to the root: a file in a folder that is lost is lost too.

        Each process syncs each folder once, for the one that made it may not have come that far.
        """
        if folder in self._durable:
            return
        if folder == self.root:
            if not folder.is_dir():
                raise StoreAwayError("the folder is gone")
        else:
            self._make(folder.parent, durable)
            with suppress(FileExistsError):
                folder.mkdir()
            if not durable:
                return
            _sync(folder.parent)
        self._durable.add(folder)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            with _classified():
                try:
                    yield
                except (IsADirectoryError, NotADirectoryError) as error:  # no store has folders
                    raise FileNotFoundError(error.filename) from None
        except FileNotFoundError:
            if not self.root.is_dir():
                raise StoreAwayError("the folder is gone") from None
            raise


def refuse_mount(path: Path, mounts: str) -> None:
    """Refuse file systems on which two machines may both win a claim. `mounts`: as in /proc/self/mounts."""
    kind = mount_kind(path, mounts)
    if REFUSED.fullmatch(kind):
        raise StoreDeniedError(
            f"{path} is a {kind} mount, where claims are not safe; point the queue at the blob itself: "
            "az://container/prefix, s3://bucket/prefix or gs://bucket/prefix"
        )


def mount_kind(path: Path, mounts: str) -> str:
    """The file system that a path lies on, or would lie on."""
    place = path.resolve()
    best, kind = Path(), ""
    for line in mounts.splitlines():
        device, point, this_kind, *_ = line.split()
        mount = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), point))
        if place.is_relative_to(mount) and len(mount.parts) >= len(best.parts):
            # blobfuse2 and mountpoint-s3 are of type "fuse"; their names stand in the device's column.
            best, kind = mount, f"fuse.{device}" if this_kind == "fuse" else this_kind
    return kind


@contextmanager
def _classified() -> Iterator[None]:
    try:
        yield
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in FULL:
            raise StoreFullError(reason) from None
        if error.errno in AWAY:
            raise StoreAwayError(reason) from None
        raise StoreDeniedError(reason) from None


def _fill(temp: Path, fill: Callable[[BinaryIO], None], durable: bool) -> None:
    with temp.open("xb", buffering=0) as out:
        fill(out)
        if durable:
            os.fsync(out.fileno())


def _write_all(out: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]


def _write_pieces(out: BinaryIO, source: BinaryIO, told: Told) -> None:
    for piece in pieces(source, 1 << 20, told):
        _write_all(out, piece)


def _place_new(temp: Path, target: Path) -> None:
    """Give the file its name, unless the name is taken."""
    try:
        os.link(temp, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        _rename_new(temp, target)


def _rename_new(temp: Path, target: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise StoreDeniedError("this system can neither link files nor rename without replacing")
    source, destination = os.fsencode(temp), os.fsencode(target)
    if libc.renameat2(AT_FDCWD, source, AT_FDCWD, destination, RENAME_NOREPLACE) == 0:
        return
    code = ctypes.get_errno()
    if code in NO_LINKS:
        raise StoreDeniedError("this file system can neither link files nor rename without replacing")
    raise OSError(code, os.strerror(code), str(target))


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _walk(folder: Path, prefix: str) -> Iterator[Entry]:
    """Files below; what vanishes meanwhile is left out, and links to folders are not followed."""
    try:
        found = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for item in found:
        name = prefix + item.name
        if item.is_dir(follow_symlinks=False):
            yield from _walk(folder / item.name, name + "/")
        elif not item.name.startswith("."):  # ours that a crash left, .DS_Store, .nfs0001
            with suppress(FileNotFoundError):
                entry = _entry(name, item.stat())
                if entry is not None:
                    yield entry


def _entry(name: str, found: os.stat_result) -> Entry | None:
    if not stat.S_ISREG(found.st_mode):
        return None
    return Entry(name, found.st_size, f"{found.st_mtime_ns}-{found.st_size}-{found.st_ino}")
