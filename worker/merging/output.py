"""The folder that a large model is written into: a file has its name only when it is whole, and stays."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from worker.errors import ItemError, UnfitError
from worker.items import Json
from worker.jobs.checkpoints import StoredFile

MANIFEST = "merged.json"
TAKEN = "taken"
_TEMP = ".writing-"
_BLOCK = 1 << 24


@dataclass(slots=True)
class Output:
    folder: Path
    made_of: Mapping[str, Json]
    """what decides every byte in it"""
    files: dict[str, StoredFile]
    """whole, and as they were written"""

    @classmethod
    def open(cls, folder: Path, made_of: Mapping[str, Json], alive: Callable[[], None]) -> Output:
        """New, or what a killed worker left: its files are read, and count if they are what was written."""
        folder.mkdir(parents=True, exist_ok=True)
        output, told = cls(folder, made_of, {}), _read(folder / MANIFEST)
        begun = [*folder.glob(f"{_TEMP}*")]
        if told is None and {*folder.iterdir()} - {*begun}:
            raise ItemError(
                TAKEN, f"into={folder} is not empty, and no merge was begun there: name a new folder"
            )
        if told is not None:
            output._require_ours(told)
        for one in begun:
            one.unlink(missing_ok=True)
        for name, (size, sha256) in (told["files"] if told else {}).items():
            stored = StoredFile(size, sha256)
            if _hash(folder / name, alive) == stored:
                output.files[name] = stored
        output.note()
        return output

    def require_room(self, sizes: Mapping[str, int]) -> None:
        need = sum(size for name, size in sizes.items() if name not in self.files)
        free = shutil.disk_usage(self.folder).free
        if need > free:
            raise UnfitError(
                f"into={self.folder}: {need / 1e9:.1f} GB are still to be written, and {free / 1e9:.1f} are "
                "free: remove what is not needed (`worker plan merge` says what), or name a folder elsewhere"
            )

    def write(self, name: str, parts: Iterable[memoryview | bytes]) -> None:
        """Hashed while it is written; then it is on the disk, and has its name."""
        temp, digest, size = self.folder / f"{_TEMP}{uuid4().hex}", hashlib.sha256(), 0
        try:
            with temp.open("xb", buffering=0) as out, ThreadPoolExecutor(1) as aside:
                for part in parts:
                    hashing = aside.submit(digest.update, part)
                    size += _write(out.fileno(), part)
                    hashing.result()
                os.fsync(out.fileno())
            self._require_ours(_read(self.folder / MANIFEST))  # another may have begun in the same moment
            temp.replace(self.folder / name)
        finally:
            with suppress(OSError):
                temp.unlink(missing_ok=True)
        _sync(self.folder)
        self.files[name] = StoredFile(size, digest.hexdigest())

    def _require_ours(self, told: Json | None) -> None:
        if told is None or told["made_of"] != self.made_of:
            raise ItemError(
                TAKEN,
                f"into={self.folder} holds the merge of another base or adapter: name a new folder, or "
                "remove it",
            )

    def note(self) -> Path:
        """What is whole is written down."""
        told = {
            "made_of": self.made_of,
            "files": {n: [f.size, f.sha256] for n, f in sorted(self.files.items())},
        }
        data, temp = f"{json.dumps(told, indent=1)}\n".encode(), self.folder / f"{_TEMP}{uuid4().hex}"
        with temp.open("xb", buffering=0) as out:
            _write(out.fileno(), data)
            os.fsync(out.fileno())
        temp.replace(self.folder / MANIFEST)
        _sync(self.folder)
        return self.folder / MANIFEST


def _read(file: Path) -> Json | None:
    try:
        told = json.loads(file.read_bytes())
        return told if isinstance(told.get("made_of"), dict) and isinstance(told.get("files"), dict) else None
    except (FileNotFoundError, ValueError, AttributeError):
        return None


def _hash(file: Path, alive: Callable[[], None]) -> StoredFile | None:
    digest, size = hashlib.sha256(), 0
    try:
        with file.open("rb", buffering=0) as source:
            while block := source.read(_BLOCK):
                alive()
                digest.update(block)
                size += len(block)
    except FileNotFoundError:
        return None
    return StoredFile(size, digest.hexdigest())


def _write(handle: int, data: memoryview | bytes) -> int:
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]
    return len(data)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
