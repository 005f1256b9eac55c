"""What a question looks like on the wire. Endpoints differ in what they take; their refusals tell how."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal

from worker.engines.engine import Request
from worker.items import Json
from worker.media.rgb import Rgb

QUALITY = 90
"""of the pictures that are sent"""
_LIMITS = {"maxItems", "maxLength", "pattern"}
_FORM = re.compile(r"(?i)response_format|json_schema|json_object|structured output|guided|grammar|schema")
_NOT_TAKEN = re.compile(
    r"(?i)unsupported|not supported|not support|unrecogni[sz]ed|unknown|unexpected|not permitted|not allowed|"
    r"use 'max_completion_tokens'"
)


class Form(StrEnum):
    """How an endpoint is told what an answer must look like."""

    SCHEMA = "json_schema"
    OBJECT = "json_object"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Dialect:
    form: Form = Form.SCHEMA
    # an endpoint that knows only one of these two refuses the newer or, worse, ignores it
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: bool = True

    def after(self, refusal: str) -> Dialect | None:
        """What to try next; None: the refusal is about the question itself."""
        if (
            self.limit == "max_tokens"
            and "max_completion_tokens" in refusal
            and _NOT_TAKEN.search(refusal)
            and "too large" not in refusal  # vLLM names both, and means the number
        ):
            return replace(self, limit="max_completion_tokens")
        if self.temperature and "temperature" in refusal:
            return replace(self, temperature=False)
        if self.form is not Form.TEXT and _FORM.search(refusal):
            return replace(self, form=Form.OBJECT if self.form is Form.SCHEMA else Form.TEXT)
        return None

    def body(self, model: str, question: Question) -> bytes:
        prompt = question.prompt
        form: dict[str, Json] = {}
        if question.schema is not None:
            schema = strict(question.schema)
            if self.form is not Form.SCHEMA:
                prompt += f"\n\nAnswer with one JSON object of this JSON schema: {_dumps(schema)}"
            if self.form is not Form.TEXT:
                form = {"response_format": _response_format(self.form, schema)}
        content = [*question.pictures, {"type": "text", "text": prompt}]
        body = {
            "model": model,
            "messages": [{"role": "user", "content": content}],
            self.limit: question.max_tokens,
            **({"temperature": 0} if self.temperature else {}),
            **form,
        }
        return _dumps(body).encode()


@dataclass(frozen=True, slots=True)
class Question:
    """A request, its frames made into what is sent."""

    pictures: Sequence[Json]
    prompt: str
    schema: Json | None
    max_tokens: int
    count: int
    """of pictures"""
    area: int
    """of one, in pixels"""


def question(request: Request) -> Question:
    pictures: list[Json] = []
    if request.times:
        for time, frame in zip(request.times, request.frames, strict=True):
            pictures += [{"type": "text", "text": f"{time:.1f} s"}, _picture(frame, "low")]
    else:
        pictures = [_picture(frame, "high") for frame in request.frames]
    area = max((frame.shape[0] * frame.shape[1] for frame in request.frames), default=0)
    schema = request.schema
    if isinstance(schema, dict) and schema.get("type") != "object":
        schema = None  # OpenAI's know objects alone; the prompt says what is wanted
    return Question(pictures, request.prompt, schema, request.max_tokens, len(request.frames), area)


def strict(schema: Json) -> Json:
    """As OpenAI's structured outputs have it, which know no limits."""
    if not isinstance(schema, dict):
        return schema  # lists hold names and values here, no schemas
    kept = {key: strict(value) for key, value in schema.items() if key not in _LIMITS}
    if "properties" in kept:  # by names, whatever these are
        kept["properties"] = {name: strict(one) for name, one in schema["properties"].items()}
    return kept


def _picture(frame: Rgb, detail: Literal["low", "high"]) -> Json:
    """Frames are no larger than what "low" shows of them."""
    import cv2

    blue_first: Any = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    good, jpeg = cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert good
    url = f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"
    return {"type": "image_url", "image_url": {"url": url, "detail": detail}}


def _response_format(form: Form, schema: Json) -> Json:
    if form is Form.OBJECT:
        return {"type": form}
    return {"type": form, "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def _dumps(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
