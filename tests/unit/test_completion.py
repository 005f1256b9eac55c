"""What endpoints send, read."""

from __future__ import annotations

import json

import pytest

from tests.endpoint import completion
from worker.engines.completion import Refusal, read, refusal
from worker.engines.engine import Reply
from worker.items import Failure


def hide(text: str) -> str:
    return text.replace("s3cret", "***")


def error(status: int, body: bytes) -> Refusal:
    return refusal(status, body, hide)


def outcome(body: str) -> Reply | Failure:
    found = read(body.encode())
    assert found
    return found.outcome(hide)


def test_an_answer() -> None:
    assert outcome(completion("hm")) == Reply("hm", 10)
    assert outcome(completion("h", finish="length")) == Reply("h", 10, truncated=True)
    assert outcome(completion(None, finish="length")) == Reply("", 10, truncated=True)
    assert outcome('{"choices": [{"message": {"content": "bare"}}]}') == Reply("bare", 0)


def test_a_refusal_keeps_what_was_said() -> None:
    assert outcome(completion(None, refusal="I can't\nhelp")) == Failure(
        "refused", "the model refuses: I can't help"
    )
    filtered = outcome(completion("It is a s3cret", finish="content_filter"))
    assert filtered == Failure("refused", "a content filter cut its answer off; it said: It is a ***")


def test_of_keys_that_stand_twice_the_last_counts() -> None:
    body = completion("first")[:-1] + ', "choices": [{"message": {"content": "second"}}]}'
    assert outcome(body) == Reply("second", 10)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>login</html>",
        completion()[:50],
        "[]",
        "{}",
        '{"choices": []}',
        '{"error": {"message": "no"}}',
    ],
)
def test_what_is_no_answer(body: str) -> None:
    assert read(body.encode()) is None


@pytest.mark.parametrize(
    ("body", "short"),
    [
        (json.dumps({"error": {"message": "no", "code": 7}}), "400: no"),
        (json.dumps({"error": "no"}), "400: no"),
        (json.dumps({"object": "error", "message": "no"}), "400: no"),
        (json.dumps({"detail": [{"loc": ["body"]}]}), '400: [{"loc": ["body"]}]'),
        ("<html><style>p {}</style><h1>Bad\n gateway</h1></html>", "400: Bad gateway"),
        ("", "400"),
        ("x" * 5000, "400: " + "x" * 300),
        ("x" * 297 + "s3cret", "400: " + "x" * 297 + "***"),
    ],
)
def test_an_error_in_one_line(body: str, short: str) -> None:
    assert error(400, body.encode()).short == short


def test_whose_fault_an_error_is() -> None:
    assert all(error(status, b"").is_about_us for status in (301, 401, 402, 403, 404, 405))
    assert all(error(status, b"").passes for status in (408, 429, 500, 502, 503, 504, 529))
    for status in (400, 413, 415, 422):
        said = error(status, b"")
        assert not said.is_about_us
        assert not said.passes
    assert error(429, b'{"error": {"code": "insufficient_quota"}}').is_about_us
    assert error(504, b"").perhaps_paid
    assert not error(500, b"").perhaps_paid
    azure = b'{"error":{"code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation"}}}'
    assert error(400, azure).is_filter
    assert not error(500, azure).is_filter
