"""What is brought to another machine, and what it is called there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.errors import UsageError
from worker.launch.inputs import named

THERE = "host:"
"""host:/data/clips lies there already"""
MOST_BYTES = 60_000


@dataclass(frozen=True, slots=True)
class Brought:
    root: Path
    """the common folder of what is brought: names there begin below it"""
    files: Sequence[str]
    """files and folders, relative to it"""
    there: Sequence[str]
    """paths and URLs that the machine itself can see"""


def brought(paths: Sequence[str]) -> Brought:
    local = [found for path in paths if not is_there(path) for found in named(path)]
    there = [path.removeprefix(THERE) for path in paths if is_there(path)]
    if not local:
        return Brought(Path.cwd(), (), there)
    whole = [Path(path).absolute() for path in local]
    # a single folder keeps its name out of its files' names, as it does here
    folders = [str(path if path.is_dir() else path.parent) for path in whole]
    root = Path(os.path.commonpath(folders))
    return Brought(root, [str(path.relative_to(root)) for path in whole], there)


def is_there(path: str) -> bool:
    return path.startswith(THERE) or "://" in path


def check(paths: Sequence[str], host: str) -> None:
    for path in paths:
        if path.startswith(THERE) and not host:
            raise UsageError(f"{path}: {THERE} means a file of the machine that --host names")
        if not is_there(path):
            named(path)


def batches(names: Sequence[str]) -> list[list[str]]:
    """A kernel takes a command of 128 KiB at most in one word, and each quote may be five letters there."""
    found: list[list[str]] = [[]]
    size = 0
    for name in names:
        size += 5 * len(name.encode()) // 4 + 5 * name.count("'") + 4
        if size > MOST_BYTES:
            found.append([])
            size = 0
        found[-1].append(name)
    return found
