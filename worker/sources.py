"""What people name on the command line — files, folders, globs, URLs, lists — becomes items."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.errors import ItemError, UsageError, WorkerError
from worker.inputs import Known, Root, inside, is_url
from worker.items import Item, Json
from worker.queue import lines
from worker.queue.intake import at_once
from worker.queue.lines import Refused, Wish
from worker.queue.protocol import item_id
from worker.tasks.task import MapTask

LISTS = (".txt", ".lst", ".jsonl")
Task = type[MapTask[Any, Any]]


@dataclass(frozen=True, slots=True)
class Named:
    """What the command line names: a root, and the inputs below it."""

    root: str | None
    """None: the task reads no files"""
    wishes: Sequence[Wish | Refused]


def find(paths: Sequence[str], task: Task, params: Mapping[str, Json], root: str | None) -> Named:
    """Every input that the paths name. A path that names nothing is an error, not an empty run."""
    if task.takes == "values":
        return Named(None, [wish for path in paths for wish in _values(path, task, params)])
    named = [found for path in paths for found in _expand(path)]
    lists = [path for path in named if _is_list(path, task)]
    direct = [path for path in named if path not in lists]
    base = Root(root or _common(direct or [str(Path(path).parent) for path in lists]))
    if not base.present():
        raise UsageError(f"--root {root} is not a folder of this machine")
    wishes: list[Wish | Refused] = []
    for path in direct:
        found = [Wish(0, one, {}) for one in _below(path, base, task)]
        if not found:
            endings = ", ".join(sorted(task.suffixes)) or "any"
            raise UsageError(f"{path} holds nothing that {task.name} takes (endings: {endings})")
        wishes += found
    for path in lists:
        wishes += _read_list(path, task, params)
    return Named(base.location, wishes)


def resolve(
    wishes: Sequence[Wish | Refused], task: Task, fingerprint: str, roots: Sequence[str]
) -> tuple[list[Item], list[Refused]]:
    """Wishes → items with their marks; many files are looked at at once."""
    resolver = Resolver(task, fingerprint, roots)
    found = at_once(lambda one: one if isinstance(one, Refused) else resolver(one), wishes)
    return [i for i in found if isinstance(i, Item)], [r for r in found if isinstance(r, Refused)]


class Resolver:
    """One wish → an item, or the reason why it cannot be one."""

    def __init__(self, task: Task, fingerprint: str, roots: Sequence[str]) -> None:
        self._task = task
        self._fingerprint = fingerprint
        self._roots = [Root(location) for location in roots]

    def __call__(self, wish: Wish) -> Item | Refused:
        if self._task.takes == "values":
            return self._item(wish.input, Known(0, ""), wish.params)
        try:
            input = self._relative(wish.input)
            if input is None:
                below = " or ".join(root.location for root in self._roots)
                return Refused(wish.line, f"names {wish.input!r}, which is outside of {below}: use --root")
            known = next((k for root in self._roots if (k := root.know(input))), None)
            input.encode()
        except UnicodeEncodeError:
            return Refused(wish.line, f"names {ascii(wish.input)}, whose name is not UTF-8: rename it")
        except (ItemError, WorkerError) as error:
            return Refused(wish.line, f"names {wish.input!r}: {error}")
        except OSError as error:
            return Refused(wish.line, f"names {wish.input!r}, which cannot be read: {error.strerror}")
        # an absent file becomes an item all the same: it fails by name, in the results
        return self._item(input, known or Known(0, ""), wish.params)

    def _relative(self, path: str) -> str | None:
        if not is_url(path) and not Path(path).is_absolute():
            relative = os.path.normpath(path)
            return Path(relative).as_posix() if inside(relative) else None
        for root in self._roots:
            if (input := _under(path, root)) is not None and inside(input):
                return input
        return None

    def _item(self, input: str, known: Known, params: Mapping[str, Json]) -> Item:
        id = item_id(self._fingerprint, input, known.size, known.mark, params)
        return Item(id, input, known.size, known.mark, params)


def _values(path: str, task: Task, params: Mapping[str, Json]) -> Iterator[Wish | Refused]:
    if path == "-" or (path.endswith(LISTS) and Path(path).is_file()):
        yield from _read_list(path, task, params)
    else:
        yield Wish(0, path, {})


def _is_list(path: str, task: Task) -> bool:
    if path == "-":
        return True
    ending = Path(path).suffix.lower()
    return ending in LISTS and bool(task.suffixes) and ending not in task.suffixes and Path(path).is_file()


def _read_list(path: str, task: Task, params: Mapping[str, Json]) -> Iterator[Wish | Refused]:
    data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    return lines.parse(data, task, params) if _is_json(path, data) else lines.plain(data)


def _is_json(path: str, data: bytes) -> bool:
    return path.endswith(".jsonl") or (path == "-" and data.lstrip()[:1] == b"{")


def _expand(path: str) -> list[str]:
    if path == "-" or is_url(path) or os.path.lexists(path):
        return [path.rstrip("/") or "/" if path != "-" else path]
    if found := sorted(glob.glob(path, recursive=True)):  # noqa: PTH207
        return found
    kind = "nothing matches" if glob.has_magic(path) else "no such file or folder:"
    raise UsageError(f"{kind} {path}")


def _common(paths: Sequence[str]) -> str:
    """The folder or prefix that all of them lie below: what item names are relative to."""
    urls = {is_url(path) for path in paths}
    if urls == {True, False}:
        raise UsageError("folders and URLs in one command have no common root: enqueue them one after the other")
    if urls == {True}:
        scheme, _, rest = paths[0].partition("://")
        if any(not path.startswith(f"{scheme}://") for path in paths):
            raise UsageError("URLs of several stores have no common root: enqueue them one after the other")
        pieces = os.path.commonpath([path.partition("://")[2].partition("?")[0] for path in paths])
        return _folder_of_url(f"{scheme}://{pieces}")
    folders = [Path(path).absolute() for path in paths]
    return os.path.commonpath([path if path.is_dir() else path.parent for path in folders])


def _folder_of_url(url: str) -> str:
    """A URL may name one blob: then its folder is the root."""
    from worker.queue.store import open_store

    folder, _, name = url.rpartition("/")
    if folder.endswith(":/") or folder.count("/") < 2 or open_store(folder).head(name) is None:
        return url
    return folder


def _under(path: str, root: Root) -> str | None:
    """The path relative to the root; None: it is not below it."""
    if is_url(path) != is_url(root.location):
        return None
    if is_url(path):
        prefix = root.location.partition("?")[0].rstrip("/") + "/"
        return path.removeprefix(prefix) if path.startswith(prefix) else None
    absolute = Path(os.path.normpath(Path(path).absolute()))
    return absolute.relative_to(root.location).as_posix() if absolute.is_relative_to(root.location) else None


def _below(path: str, base: Root, task: Task) -> Iterator[str]:
    """The inputs of one path, relative to the root: a file itself, or a folder's files of the right endings."""
    relative = _under(path, base)
    if relative is None or not (relative == "." or path == base.location or inside(relative)):
        raise UsageError(f"{path} is outside of --root {base.location}")
    if not is_url(path) and Path(path).is_file():
        yield relative
        return
    if is_url(path) and relative and base.know(relative):
        yield relative
        return
    top = Root(path)
    prefix = "" if relative in ("", ".") or path == base.location else f"{relative}/"
    for input in top.below():
        if not task.suffixes or Path(input).suffix.lower() in task.suffixes:
            yield prefix + input
