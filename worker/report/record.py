"""One line of final_results.json."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from worker.items import Answer, Failure, Json, Result
from worker.queue.text import dumps, encode
from worker.report.files import relative_paths


def record(result: Result) -> dict[str, Json]:
    """Only what is the same whoever answered, however often it was tried."""
    outcome = result.outcome
    failed = isinstance(outcome, Failure)
    line: dict[str, Json] = {
        "item": result.item,
        "input": result.input,
        "status": "failed" if failed else "ok",
        "failure": {"kind": outcome.kind, "message": outcome.message} if isinstance(outcome, Failure) else None,
    }
    if isinstance(outcome, Answer):
        line |= {key: value for key, value in outcome.keys.items() if key not in line}
        if result.files:
            line["files"] = relative_paths(result)
    return line


def document(head: dict[str, Json], lines: Iterable[bytes]) -> Iterator[bytes]:
    """A JSON document whose results stand one a line, so that `grep` and `diff` work on it."""
    yield dumps(head)[:-1].encode() + b',"results":['
    separator = b"\n"
    for line in lines:
        yield separator + line
        separator = b",\n"
    yield b"\n]}\n"


def encoded(result: Result) -> bytes:
    return encode(record(result))
