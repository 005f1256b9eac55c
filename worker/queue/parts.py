"""A part: results of one epoch of one shard, written once. Its last line says how many and their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from worker.items import Answer, Failure, Json, Result
from worker.queue.text import UNWRITABLE, decode, decode_lines, encode


def pack(results: Sequence[Result]) -> bytes:
    body = b"".join(line(result) + b"\n" for result in results)
    return body + _seal(body, len(results)) + b"\n"


def unpack(data: bytes) -> list[Result] | None:
    """None: torn or not a part; nothing of it counts."""
    cut = data.rfind(b"\n", 0, len(data) - 1) + 1
    body, last = data[:cut], data[cut:]
    lines = body.split(b"\n")[:-1]
    if last.removesuffix(b"\n") != _seal(body, len(lines)):
        return None
    return [_result(one) for one in decode_lines(lines)]


def line(result: Result) -> bytes:
    """Made once: whether it can be written is asked first, and it is written later."""
    if not result.line:
        object.__setattr__(result, "line", encode(_record(result)))
    return result.line


def unwritable(result: Result) -> str:
    """Why it is no JSON of ours; empty: it is."""
    try:
        line(result)
    except UNWRITABLE as error:
        return " ".join(str(error).split())
    return ""


def read_line(data: bytes) -> Result:
    return _result(decode(data))


def _seal(body: bytes, count: int) -> bytes:
    return encode({"count": count, "sha256": hashlib.sha256(body).hexdigest()})


def _record(result: Result) -> Json:
    record: dict[str, Json] = {"item": result.item, "input": result.input}
    if isinstance(result.outcome, Failure):
        # an exception may quote a name that is not UTF-8
        message = result.outcome.message.encode(errors="replace").decode()
        record["failure"] = {"kind": result.outcome.kind, "message": message}
    else:
        record["answer"] = dict(result.outcome.keys)
        if result.files:
            record["files"] = dict(result.files)
    record["run"] = dict(result.run)
    return record


def _result(record: Json) -> Result:
    failure = record.get("failure")
    return Result(
        item=record["item"],
        input=record["input"],
        outcome=Failure(failure["kind"], failure["message"]) if failure else Answer(record["answer"]),
        files=record.get("files", {}),
        run=record.get("run", {}),
    )
