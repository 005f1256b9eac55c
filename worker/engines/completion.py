"""What an endpoint said, read: an answer, a refusal, or why it did neither."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, Field, ValidationError

from worker.engines.engine import Reply
from worker.items import Failure, Json

_MOST = 300
"""letters of an error message"""
_RAW_MOST = 4000
"""letters of what a model said"""
REFUSED = "refused"
"""the kind of what the model, or who watches over it, does not want to answer"""
_FILTERED = re.compile(r"content_filter|ResponsibleAIPolicy|content_policy|content management policy")
_TAG = re.compile(r"(?s)<(script|style).*?</\1>|<[^>]*>")


class Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class Choice(BaseModel):
    message: Message
    finish_reason: str | None = None


class Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Completion(BaseModel):
    choices: list[Choice] = Field(min_length=1)
    usage: Usage | None = None

    def outcome(self, hide: Callable[[str], str]) -> Reply | Failure:
        choice = self.choices[0]
        text = hide(choice.message.content or "")
        if refusal := choice.message.refusal:
            return Failure(REFUSED, f"the model refuses: {_line(hide(refusal))}")
        if choice.finish_reason == "content_filter":
            return Failure(REFUSED, f"a content filter cut its answer off; it said: {_line(text)}")
        tokens = self.usage.completion_tokens if self.usage else None
        return Reply(text, tokens or 0, truncated=choice.finish_reason == "length")


def read(body: bytes) -> Completion | None:
    """None: it is no answer."""
    try:
        return Completion.model_validate_json(body)
    except ValidationError:
        return None


def is_page(body: bytes) -> bool:
    """Somebody else answers there, and whole: no model's answer, cut or odd, begins like that."""
    begins = body.lstrip()[:1]
    return begins not in (b"", b"{")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP error: what it says, and what that is about."""

    status: int
    text: str
    """all of it, for who looks for words in it"""
    short: str
    """for a person"""

    @property
    def is_filter(self) -> bool:
        return self.status == 400 and bool(_FILTERED.search(self.text))

    @property
    def wants_money(self) -> bool:
        """A 429 that no waiting helps."""
        codes = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
        return self.status == 402 or (self.status == 429 and any(code in self.text for code in codes))

    @property
    def is_about_us(self) -> bool:
        """No other question would fare better."""
        return self.wants_money or self.status < 400 or self.status in (401, 403, 404, 405, 407)

    @property
    def passes(self) -> bool:
        """The same question may be answered later."""
        return self.status in (408, 409, 425, 429) or self.status >= 500

    @property
    def perhaps_paid(self) -> bool:
        """Somebody on the way lost patience; the model may have answered."""
        return self.status in (408, 504, 524)


def _line(text: str) -> str:
    return " ".join(text.split())[:_RAW_MOST]


def refusal(status: int, body: bytes, clean: Callable[[str], str]) -> Refusal:
    text = body.decode(errors="replace")
    short = clean(" ".join((_message(text) or _TAG.sub(" ", text)).split()))
    return Refusal(status, text, f"{status}: {short[:_MOST]}" if short else str(status))


def _message(text: str) -> str:
    """{"error": {"message": …}}, {"error": …}, {"message": …} or {"detail": …}"""
    try:
        found: Json = json.loads(text)
    except ValueError:
        return ""
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(key):
            found = found[key]
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
