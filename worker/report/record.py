"""One line of final_results.json."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from worker.items import Answer, Failure, Json, Result
from worker.queue.text import dumps, encode
from worker.redact import redact
from worker.report.files import relative_paths, shown


def record(result: Result) -> dict[str, Json]:
    """Only what is the same whoever answered, however often it was tried."""
    outcome = result.outcome
    failure = outcome if isinstance(outcome, Failure) else None
    line: dict[str, Json] = {
        "item": result.item,
        "input": shown(result.input),
        "status": "failed" if failure else "ok",
        "failure": failure and {"kind": failure.kind, "message": redact(failure.message)},
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
