"""Which process asked: named so that another one on this machine can tell whether it still lives."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
BOOT = PROC / "sys/kernel/random/boot_id"


def boot() -> str:
    with suppress(OSError):
        return BOOT.read_text().strip()
    return ""


def this() -> str:
    """`4711.88123@4026531836@…`: its number and start, whose numbers these are, and since which boot.
    Empty: nobody could tell."""
    born, space = _born(os.getpid()), _space()
    return f"{os.getpid()}.{born}@{space}@{boot()}" if born and space and boot() else ""


def is_gone(name: str) -> bool:
    """For sure: in another container, or on another machine, nothing can be said."""
    who, _, where = name.partition("@")
    pid, _, born = who.partition(".")
    if not pid or where != f"{_space()}@{boot()}":
        return False
    return _born(int(pid)) != born


def pid_of(name: str) -> str:
    return name.partition(".")[0]


def _born(pid: int) -> str:
    """In ticks since the boot, for numbers are used again; empty: it is gone, or a zombie."""
    try:
        state, *fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if state == "Z" else fields[18]


def _space() -> str:
    with suppress(OSError):
        return str((PROC / "self/ns/pid").readlink()).strip("pid:[]")
    return ""
