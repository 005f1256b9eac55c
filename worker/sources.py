"""What people name on the command line — files, folders, globs, URLs, lists — becomes items."""

from __future__ import annotations

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from worker.errors import ItemError, StoreAwayError, UsageError
from worker.inputs import Known, Root, clean, inside, is_of_the_file, is_url
from worker.items import Item, Json
from worker.queue import lines
from worker.queue.lines import Refused, Wish
from worker.queue.protocol import item_id
from worker.queue.store import in_order
from worker.tasks.registry import AnyTask

LISTS = (".txt", ".lst", ".jsonl")


@dataclass(frozen=True, slots=True)
class Named:
    """What the command line names: a root, and the inputs below it."""

    root: str | None
    """None: the task reads no files"""
    wishes: Iterable[Wish | Refused]
    skipped: Mapping[str, int] = field(default_factory=dict)
    """files of folders that the task does not take: ending → how many"""


def find(
    paths: Sequence[str],
    task: type[AnyTask],
    params: Mapping[str, Json],
    root: str | None,
    known: Sequence[str] = (),
) -> Named:
    """Every input that the paths name. A path that names nothing is an error, not an empty run."""
    if task.takes == "values":
        return Named(None, chain.from_iterable([_values(path, task, params) for path in paths]))
    named = [found for path in paths for found in _expand(path)]
    lists = [path for path in named if _is_list(path, task)]
    direct = [path for path in named if path not in lists]
    listed = [wish for path in lists for wish in _listed(path, task, params, anchored=root is None)]
    inputs = direct + [wish.input for wish in listed if isinstance(wish, Wish)]
    base = Root(root or _known(inputs, known) or _common(inputs or ["."]))
    if not base.present():
        raise UsageError(f"--root {root} is not a folder of this machine")
    if not _is_text(base.location):
        raise UsageError(f"the name of the folder {base.location!a} is not UTF-8: rename it")
    wishes: list[Wish | Refused] = []
    skipped: Counter[str] = Counter()
    for path in direct:
        found = list(_below(path, base, task, skipped))
        if not found:
            endings = ", ".join(sorted(task.suffixes)) or "any"
            raise UsageError(f"{path} holds nothing that {task.name} takes (endings: {endings})")
        wishes += found
    return Named(base.location, wishes + listed, skipped)


def resolve(
    wishes: Iterable[Wish | Refused], task: type[AnyTask], fingerprint: str, roots: Sequence[str]
) -> Iterator[Item | Refused]:
    """Wishes → items with their marks; many files are looked at at once."""
    resolver = Resolver(task, fingerprint, roots)

    def look(wish: Wish | Refused) -> Item | Refused:
        return wish if isinstance(wish, Refused) else resolver(wish)

    return map(look, wishes) if task.takes == "values" else in_order(look, wishes)


class Resolver:
    """One wish → an item, or the reason why it cannot be one."""

    def __init__(self, task: type[AnyTask], fingerprint: str, roots: Sequence[str]) -> None:
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
            if not _is_text(input):
                return Refused(wish.line, f"names {wish.input!a}, whose name is not UTF-8: rename it")
            known = next((k for root in self._roots if (k := root.know(input))), None)
            other = next((o for root in self._roots if (o := root.other(input))), "") if not known else ""
        except (ItemError, UsageError) as error:
            return Refused(wish.line, f"names {wish.input!r}: {error}")
        except OSError as error:
            if not is_of_the_file(error):
                raise StoreAwayError(
                    f"{wish.input!r} cannot be read now ({error.strerror}): run the same command again"
                ) from error
            return Refused(wish.line, f"names {wish.input!r}, which cannot be read: {error.strerror}")
        if other:
            return Refused(wish.line, f"names {wish.input!r}, which is {other} and no file")
        # an absent file becomes an item all the same: it fails by name, in the results
        return self._item(input, known or self._absent(), wish.params)

    def _absent(self) -> Known:
        """Absent, and not merely on a disk that is not mounted just now."""
        for root in self._roots:
            if not root.present():
                raise StoreAwayError(f"{root.location} is gone from this machine: mount it again")
        return Known(0, "")

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


def _values(path: str, task: type[AnyTask], params: Mapping[str, Json]) -> Iterable[Wish | Refused]:
    if path == "-" or (_ending(path) in LISTS and _is_file(path)):
        return _read_list(path, task, params)
    return [Wish(0, path, {})]


def _is_list(path: str, task: type[AnyTask]) -> bool:
    if path == "-":
        return True
    ending = _ending(path)
    return ending in LISTS and bool(task.suffixes) and ending not in task.suffixes and _is_file(path)


def _ending(path: str) -> str:
    return Path(path).suffix.lower()


def _is_file(path: str) -> bool:
    """False, and no error, for what cannot be a path at all."""
    return os.path.isfile(path)  # noqa: PTH113


def _is_text(path: str) -> bool:
    """Names of files are bytes; those that are not UTF-8 cannot stand in a file of ours."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_list(path: str, task: type[AnyTask], params: Mapping[str, Json]) -> Iterator[Wish | Refused]:
    data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    return lines.parse(data, task, params) if _is_json(path, data) else lines.plain(data)


def _listed(
    path: str, task: type[AnyTask], params: Mapping[str, Json], anchored: bool
) -> Iterator[Wish | Refused]:
    """A list's lines; without a root its relative names are meant from where the list lies."""
    folder = Path.cwd() if path == "-" else Path(path).absolute().parent
    for wish in _read_list(path, task, params):
        if anchored and isinstance(wish, Wish) and not is_url(wish.input):
            yield replace(wish, input=str(folder / wish.input))
        else:
            yield wish


def _is_json(path: str, data: bytes) -> bool:
    return _ending(path) == ".jsonl" or (path == "-" and data.lstrip()[:1] == b"{")


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
        raise UsageError(
            "folders and URLs in one command have no common root: enqueue them one after the other"
        )
    if urls == {True}:
        plain = [path.partition("?")[0] for path in paths]
        if len({tuple(path.split("/")[:3]) for path in plain}) > 1:
            raise UsageError("URLs of several stores have no common root: enqueue them one after the other")
        scheme, _, _ = plain[0].partition("://")
        secret = paths[0].partition("?")[2]
        common = os.path.commonpath([path.partition("://")[2] for path in plain])
        return _folder_of_url(f"{scheme}://{common}", f"?{secret}" if secret else "")
    places = [clean(path) for path in paths]
    return os.path.commonpath([p if os.path.isdir(p) else str(Path(p).parent) for p in places])  # noqa: PTH112


def _known(paths: Sequence[str], roots: Sequence[str]) -> str | None:
    """The root of an earlier call that all of them lie below: a file keeps the name that it has there."""
    fit = [r for r in roots if paths and all(_under(path, Root(r)) is not None for path in paths)]
    return min(fit, key=len, default=None)


def _folder_of_url(url: str, secret: str) -> str:
    """A URL may name one blob: then its folder is the root."""
    from worker.queue.store import open_store

    folder, _, name = url.rpartition("/")
    is_blob = folder.count("/") >= 2 and open_store(folder + secret).head(name) is not None
    return (folder if is_blob else url) + secret


def _under(path: str, root: Root) -> str | None:
    """The path relative to the root; None: it is not below it."""
    if is_url(path) != is_url(root.location):
        return None
    if is_url(path):
        plain, prefix = (one.partition("?")[0].rstrip("/") for one in (path, root.location))
        return plain[len(prefix) + 1 :] if f"{plain}/".startswith(f"{prefix}/") else None
    absolute = Path(clean(path))
    return absolute.relative_to(root.location).as_posix() if absolute.is_relative_to(root.location) else None


def _below(path: str, base: Root, task: type[AnyTask], skipped: Counter[str]) -> Iterator[Wish | Refused]:
    """The inputs of one path, relative to the root: a file, or a folder's files of the right endings."""
    relative = _under(path, base)
    if relative is None:
        raise UsageError(f"{path} is outside of --root {base.location}")
    if relative not in ("", ".") and (base.know(relative) if is_url(path) else not Path(path).is_dir()):
        yield Wish(0, relative, {})
        return
    prefix = "" if relative in ("", ".") else f"{relative}/"
    folder = Root(path)
    refused: list[Refused] = []

    def refuse(error: OSError) -> None:
        if error.filename == folder.location or not is_of_the_file(error):
            raise UsageError(f"{error.filename}: {error.strerror}; nothing was enqueued") from None
        name = Path(error.filename).relative_to(base.location).as_posix()
        refused.append(Refused(0, f"is the folder {name!r}, which cannot be read: {error.strerror}"))

    for input in folder.below(refuse):
        if not task.suffixes or _ending(input) in task.suffixes:
            yield Wish(0, prefix + input, {})
        else:
            skipped[_ending(input) or "no ending"] += 1
    yield from refused
