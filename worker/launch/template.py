"""The files of env/ that a launch fills in. YAML as lines, one key's of them replaced: so `render` needs no
library, and comments stay."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from worker.errors import UsageError
from worker.items import Json
from worker.launch.flow import flow

NOTHING: Sequence[Json] = (None, {}, [], ())
"""left out; an empty text is one"""


def read(file: Path, remedy: str = "work in a whole checkout") -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"{file} cannot be read ({why}): {remedy}") from None


def put(text: str, key: str, values: Mapping[str, Json]) -> str:
    """These entries in place of KEY's, which stands once in the file."""
    lines = text.splitlines()
    start, end, indent = _block(lines, key)
    return _joined([*lines[:start], *entries(values, indent), *lines[end:]])


def add(text: str, key: str, items: Sequence[Json]) -> str:
    """At the end of KEY's list."""
    lines = text.splitlines()
    _, end, indent = _block(lines, key)
    more = [f"{' ' * (indent + 2)}- {flow(one)}" for one in items]
    return _joined([*lines[:end], *more, *lines[end:]])


def entries(values: Mapping[str, Json], indent: int = 0) -> Iterator[str]:
    pad = " " * indent
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield f"{pad}{flow(key)}:"
            yield from entries(value, indent + 2)
        elif isinstance(value, list | tuple) and value:
            yield f"{pad}{flow(key)}:"
            yield from (f"{pad}  - {flow(one)}" for one in value)
        elif value not in NOTHING:
            yield f"{pad}{flow(key)}: {flow(value)}"


def _block(lines: Sequence[str], key: str) -> tuple[int, int, int]:
    """Where KEY's lines begin and end, and how far it is indented."""
    form = re.compile(rf" *{re.escape(key)}:( |$)")
    found = [number for number, line in enumerate(lines) if form.match(line)]
    if len(found) != 1:
        raise UsageError(
            f"the template has {len(found)} lines that begin with {key}: where one is filled in; "
            "begin with the file that is shipped in env/"
        )
    start = found[0]
    indent = _indent(lines[start])
    end = start + 1
    while end < len(lines) and (_indent(lines[end]) > indent or lines[end].startswith(" " * indent + "- ")):
        end += 1
    return start, end, indent


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
