"""Memory, cores and disks: of the machine, and what is left of them to a container."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from worker.doctor.facts import Disk, Room
from worker.queue.directory import mount_kind

GB = 1e9


def look(uses: dict[str, Path], root: Path = Path("/")) -> Room:
    """`uses`: what each folder is for; it may not be there yet."""
    shm = root / "dev/shm"
    return Room(
        ram=_memory(_read(root / "proc/meminfo")),
        limit=_limit(root),
        cores=len(os.sched_getaffinity(0)),
        quota=_quota(root),
        shm=_free(shm) if shm.is_dir() else None,
        disks=[_disk(use, folder, _read(root / "proc/self/mounts")) for use, folder in uses.items()],
    )


def _memory(text: str) -> float:
    found = re.search(r"^MemTotal:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 / GB if found else 0.0


def _limit(root: Path) -> float | None:
    limits = [
        int(text)
        for folder in _groups(root, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := _read(folder / name).strip()).isdecimal()
    ]
    # without a limit the older kernel says a number that no machine has
    least = min(limits, default=1 << 62)
    return least / GB if least < 1 << 60 else None


def _quota(root: Path) -> float | None:
    quotas = []
    for folder in _groups(root, "cpu"):
        newer, older = _read(folder / "cpu.max").split(), _read(folder / "cpu.cfs_quota_us").strip()
        if len(newer) == 2 and newer[0].isdecimal():
            quotas.append(int(newer[0]) / int(newer[1]))
        elif older.isdecimal() and (period := _read(folder / "cpu.cfs_period_us").strip()):
            quotas.append(int(older) / int(period))
    return min(quotas, default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Ours and those above it; in a container its own is the root of what it sees."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        inner = top / path.lstrip("/")
        yield from dict.fromkeys(one for one in (inner, *inner.parents) if one.is_relative_to(top))


def _disk(use: str, folder: Path, mounts: str) -> Disk:
    place = nearest(folder)
    device = place.stat().st_dev
    writable = os.access(place, os.W_OK)
    return Disk(use, str(folder), _free(place), device, mount_kind(place, mounts), writable)


def nearest(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    folder = folder.expanduser().absolute()
    return next(one for one in (folder, *folder.parents) if os.path.isdir(one))  # noqa: PTH112  is_dir() raises where we may not look


def _free(folder: Path) -> float:
    told = os.statvfs(folder)
    return told.f_bavail * told.f_frsize / GB


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
