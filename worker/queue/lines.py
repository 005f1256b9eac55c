"""What people put into an inbox or a list: one JSON object, or one path, a line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from worker.errors import UsageError
from worker.items import Json
from worker.queue.text import encode
from worker.tasks.params import validate
from worker.tasks.registry import AnyTask

LINE_MOST = 256 * 1024
NESTED_MOST = 64
"""whoever reads a shard must be able to, however deep its own stack is by then"""
KEYS = ("input", "params")


@dataclass(frozen=True, slots=True)
class Wish:
    """One line that asks for work."""

    line: int
    input: str
    params: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Refused:
    """One line that nothing can be done with, and why."""

    line: int
    why: str


def parse(data: bytes, task: type[AnyTask], base: Mapping[str, Json]) -> Iterator[Wish | Refused]:
    """JSON lines. A bad line is refused alone; the others are taken."""
    for number, line in enumerate(_lines(data), start=1):
        if line.strip(b" \t\r\xef\xbb\xbf"):
            try:
                yield _wish(number, line, task, base)
            except UsageError as error:
                yield Refused(number, str(error))


def plain(data: bytes) -> Iterator[Wish | Refused]:
    """One path or value a line; empty lines and lines that start with # say nothing."""
    for number, line in enumerate(_lines(data.removeprefix(b"\xef\xbb\xbf")), start=1):
        try:
            _refuse_long(line)
            text = line.decode().strip()
        except UsageError as error:
            yield Refused(number, str(error))
        except UnicodeDecodeError:
            yield Refused(number, "is not UTF-8: save the list as UTF-8")
        else:
            if text and not text.startswith("#"):
                yield Wish(number, text, {})


def _lines(data: bytes) -> Iterator[bytes]:
    """One by one: a million at once are more than the bytes that they are made of."""
    return (line.removesuffix(b"\n") for line in io.BytesIO(data))


def _refuse_long(line: bytes) -> None:
    if len(line) > LINE_MOST:
        raise UsageError(
            f"is {len(line) / 1e6:.1f} MB long, an item may be {LINE_MOST // 1024} KiB: "
            "put the content into a file and name the file"
        )


def _wish(number: int, line: bytes, task: type[AnyTask], base: Mapping[str, Json]) -> Wish:
    _refuse_long(line)
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f'is not JSON ({error}); write {{"input": "path"}}') from None
    if not isinstance(record, dict):
        raise UsageError(f'is not a JSON object but {_type(record)}; write {{"input": "path"}}')
    for key in record:
        if key not in KEYS:
            near = get_close_matches(key, KEYS, 1)
            hint = f"did you mean {near[0]!r}?" if near else "known are 'input' and 'params'"
            raise UsageError(f"has an unknown key {key!r}; {hint}")
    text, params = record.get("input"), record.get("params", {})
    if not isinstance(text, str) or not text:
        raise UsageError(f"needs 'input' as a text, it has {_type(text)}")
    if not isinstance(params, dict):
        raise UsageError(f'has \'params\' as {_type(params)}; write {{"params": {{"name": value}}}}')
    _refuse_unwritable(record)
    if params:
        validate(task, {**base, **params})
    return Wish(number, text, params)


def _refuse_unwritable(record: Json) -> None:
    """What Python reads as JSON and we cannot, or dare not, write as JSON."""
    if _is_deeper(record, NESTED_MOST):
        raise UsageError(f"is nested more than {NESTED_MOST} deep: put the content into a file and name it")
    try:
        encode(record)
    except UnicodeEncodeError:
        raise UsageError(
            "has half of a surrogate pair in it, which is no text: write the characters themselves"
        ) from None
    except ValueError:
        raise UsageError("has NaN or Infinity in it: numbers in JSON are finite") from None


def _is_deeper(value: Json, most: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return most == 0 or any(_is_deeper(one, most - 1) for one in inner)


def _type(value: Json) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number"}
    return "nothing" if value is None else names.get(type(value), "a number")
