"""Questions to a vision engine, and what it said, read: whose reply cannot be read is asked once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as with_
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from worker.blame import failure_of
from worker.engines.engine import Reply, Request
from worker.engines.reply import UnreadableError
from worker.errors import UnfinishedError, WorkerError
from worker.items import UNANSWERED, Failure

if TYPE_CHECKING:
    from worker.engines.engine import VisionEngine

RAW_MOST = 4000
"""letters of a reply that nobody can read"""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Question(Protocol[T_co]):
    @property
    def request(self) -> Request: ...

    def read(self, text: str) -> T_co:
        """Raises UnreadableError, with what can be read of it, if anything."""

    def again(self, why: str) -> str:
        """The prompt that asks once more."""


@dataclass(frozen=True, slots=True)
class Asked(Generic[T]):
    """What a model said, read."""

    said: T
    reply: Reply
    repaired: bool = False
    """its first reply could not be read"""


@dataclass(frozen=True, slots=True)
class _Unread(Generic[T]):
    why: UnreadableError
    reply: Reply

    @property
    def partly(self) -> Asked[T] | None:
        return None if self.why.partly is None else Asked(self.why.partly, self.reply)


def ask(engine: VisionEngine, questions: Sequence[Question[T]]) -> list[Asked[T] | Failure]:
    """Whose reply cannot be read is asked once more, together with the others of the batch. What can be read
    of the second, or else of the first, counts then."""
    replies = engine.answer([one.request for one in questions])
    first = [_read(one, reply) for one, reply in zip(questions, replies, strict=True)]
    unread = {n: one for n, one in enumerate(first) if isinstance(one, _Unread)}
    repairs = [_again(questions[n], one.why) for n, one in unread.items()]
    second = {
        n: _read(questions[n], reply) for n, reply in zip(unread, _answers(engine, repairs), strict=True)
    }
    return [_settled(one, second[n]) if isinstance(one, _Unread) else one for n, one in enumerate(first)]


def _settled(first: _Unread[T], second: Asked[T] | Failure | _Unread[T]) -> Asked[T] | Failure:
    if isinstance(second, Failure):
        return second
    if isinstance(second, Asked):
        return with_(second, repaired=True)
    raw = " ".join(second.reply.text.split())[:RAW_MOST]
    return (
        second.partly or first.partly or Failure("unreadable", f"asked twice, {second.why}; it said: {raw}")
    )


def _answers(engine: VisionEngine, requests: Sequence[Request]) -> Sequence[Reply | Failure]:
    """What was answered before is not lost when the machine falls ill now."""
    try:
        return engine.answer(requests) if requests else []
    except UnfinishedError:
        return [UNANSWERED] * len(requests)
    except WorkerError as error:
        return [Failure("device", str(error))] * len(requests)
    except Exception as error:
        return [failure_of(error)] * len(requests)


def _read(question: Question[T], reply: Reply | Failure) -> Asked[T] | Failure | _Unread[T]:
    if isinstance(reply, Failure):
        return reply
    try:
        return Asked(question.read(reply.text), reply)
    except UnreadableError as error:
        cut = UnreadableError(f"cut off after {reply.tokens} tokens", error.partly)
        return _Unread(cut if reply.truncated else error, reply)


def _again(question: Question[T], why: UnreadableError) -> Request:
    return with_(question.request, prompt=question.again(str(why)))
