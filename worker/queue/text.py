"""JSON as we write it: one form, so that the same thing is the same bytes everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from worker.items import Json

UNWRITABLE = (TypeError, ValueError, RecursionError)
"""what encode raises of a value that is no JSON of ours"""
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def dumps(value: Json) -> str:
    return _encoder.encode(value)


def encode(value: Json) -> bytes:
    return dumps(value).encode()


def unwritable(value: Json) -> str:
    """Why a value is no JSON of ours; empty: it is."""
    try:
        encode(dict(value) if isinstance(value, Mapping) else value)
    except UNWRITABLE as error:
        return " ".join(str(error).split())
    return ""


def decode(data: bytes) -> Json:
    return json.loads(data.decode())


def decode_lines(lines: Iterable[bytes]) -> list[Json]:
    """One value a line, in one go: that is twice as fast as one by one."""
    return list(decode(b"[" + b",".join(lines) + b"]"))
