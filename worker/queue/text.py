"""JSON as we write it: one form, so that the same thing is the same bytes everywhere."""

from __future__ import annotations

import json

from worker.items import Json


def dumps(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def encode(value: Json) -> bytes:
    return dumps(value).encode()


def decode(data: bytes) -> Json:
    return json.loads(data)
