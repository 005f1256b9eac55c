"""From files of this machine to blobs that the workers find."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import UsageError
from worker.launch.launch import Launch

if TYPE_CHECKING:
    from worker.launch.launcher import Say


@dataclass(frozen=True, slots=True)
class Brought:
    """What is enqueued, and what is uploaded before."""

    named: Sequence[str]
    root: str | None
    uploads: Sequence[tuple[Path, str]] = ()
    """a file or folder, and the folder that it goes into"""


def place(launch: Launch, to: str) -> Brought:
    """A folder keeps its files' names: as answered here, so answered there."""
    from worker.inputs import clean, is_url
    from worker.sources import LISTS, common_folder

    if not launch.inputs or (launch.task and _takes_values(launch.task)):
        return Brought(launch.inputs, None)
    if all(map(is_url, launch.inputs)):
        return Brought(launch.inputs, None)
    if any(map(is_url, launch.inputs)):
        raise UsageError(
            "folders and URLs in one launch have no common root: launch them one after the other"
        )
    paths = [path for said in launch.inputs for path in _expanded(said)]
    if lists := [path for path in paths if path.suffix.lower() in LISTS and path.is_file()]:
        raise UsageError(
            f"{lists[0]} is a list: the workers do not see this machine; name its folder or URLs"
        )
    root = Path(common_folder([str(path) for path in paths]))
    named, uploads = [], []
    for path in paths:
        relative = Path(clean(str(path))).relative_to(root)
        folder = relative if path.is_dir() else relative.parent
        named.append(_below(to, relative))
        uploads.append((path, _below(to, folder)))
    return Brought(named, to, uploads)


def upload(brought: Brought, say: Say) -> None:
    from worker.launch.transfer import upload as send

    for path, to in brought.uploads:
        send(path, to, say)


def _below(to: str, relative: Path) -> str:
    return to if relative == Path() else f"{to}/{relative.as_posix()}"


def _takes_values(task: str) -> bool:
    from worker.tasks import registry

    return registry.find(task).takes == "values"


def _expanded(said: str) -> Sequence[Path]:
    if Path(said).exists():
        return [Path(said)]
    if found := sorted(glob.glob(said, recursive=True)):  # noqa: PTH207
        return [Path(one) for one in found]
    raise UsageError(f"{said} is not there")
