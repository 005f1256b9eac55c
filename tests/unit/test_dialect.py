"""Which refusals tell how an endpoint wants to be asked, and what a question looks like then."""

from __future__ import annotations

import json

import numpy as np
import pytest

from worker.engines.dialect import Dialect, Form, question, strict
from worker.engines.engine import Request

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
REQUEST = Request([np.zeros((4, 6, 3), np.uint8)] * 2, [0.5, 12.44], "what is it?", SCHEMA, 99)


def body(dialect: Dialect) -> dict[str, object]:
    found: dict[str, object] = json.loads(dialect.body("gpt", question(REQUEST)))
    return found


def test_the_first_try_asks_for_all_there_is() -> None:
    found = body(Dialect())
    assert found["model"] == "gpt"
    assert found["max_tokens"] == 99
    assert found["temperature"] == 0
    form = {"name": "answer", "strict": True, "schema": SCHEMA}
    assert found["response_format"] == {"type": "json_schema", "json_schema": form}
    (message,) = found["messages"]  # type: ignore[misc]
    kinds = [part["type"] for part in message["content"]]  # type: ignore[index]
    assert kinds == ["text", "image_url", "text", "image_url", "text"]
    assert [part["text"] for part in message["content"][::2]] == ["0.5 s", "12.4 s", "what is it?"]  # type: ignore[index]


@pytest.mark.parametrize("form", [Form.OBJECT, Form.TEXT])
def test_without_schemas_the_prompt_tells_what_is_wanted(form: Form) -> None:
    found = body(Dialect(form))
    (message,) = found["messages"]  # type: ignore[misc]
    prompt = message["content"][-1]["text"]  # type: ignore[index]
    assert prompt.startswith("what is it?")
    assert json.dumps(SCHEMA, separators=(",", ":")) in prompt
    assert "JSON" in prompt, "who is asked for a JSON object wants to read the word"
    wanted = {"type": "json_object"} if form is Form.OBJECT else None
    assert found.get("response_format") == wanted


@pytest.mark.parametrize(
    ("refusal", "then"),
    [
        (
            (
                "Unsupported parameter: 'max_tokens' is not supported with this model. "
                "Use 'max_completion_tokens' instead."
            ),
            Dialect(limit="max_completion_tokens"),
        ),
        (
            "Unsupported value: 'temperature' does not support 0 with this model.",
            Dialect(temperature=False),
        ),
        ("Invalid parameter: 'response_format' of type 'json_schema' is not supported", Dialect(Form.OBJECT)),
        ("'response_format.type' : value is not one of the allowed values", Dialect(Form.OBJECT)),
        (
            "Invalid schema for response_format 'answer': 'additionalProperties' is required",
            Dialect(Form.OBJECT),
        ),
        ("json_schema is enabled only for api versions 2024-08-01-preview and later", Dialect(Form.OBJECT)),
        ('{"detail":[{"type":"extra_forbidden","loc":["body","response_format"]}]}', Dialect(Form.OBJECT)),
        # these are about the question
        ("'max_tokens' or 'max_completion_tokens' is too large: 512. This model's maximum context", None),
        ("This model's maximum context length is 8192 tokens. However, you requested 9000 tokens", None),
        ("At most 16 image(s) may be provided in one prompt.", None),
        ("Invalid image data", None),
        ("", None),
    ],
)
def test_a_refusal_tells_what_to_leave_out(refusal: str, then: Dialect | None) -> None:
    assert Dialect().after(refusal) == then


def test_who_takes_nothing_is_not_asked_for_ever() -> None:
    says = "Unknown max_tokens, use 'max_completion_tokens'; no temperature, no response_format"
    dialect, steps = Dialect(), 0
    while after := dialect.after(says):
        dialect, steps = after, steps + 1
    assert dialect == Dialect(Form.TEXT, "max_completion_tokens", temperature=False)
    assert steps == 4


def test_limits_that_strict_schemas_do_not_know_stay_here() -> None:
    limited = {
        "type": "array",
        "maxItems": 3,
        "items": {"type": "object", "properties": {"pattern": {"type": "string", "maxLength": 9}}},
    }
    assert strict(limited) == {
        "type": "array",
        "items": {"type": "object", "properties": {"pattern": {"type": "string"}}},
    }


def test_pictures_are_sent_without_times_and_an_array_is_asked_for_in_words_alone() -> None:
    shown = [np.zeros((4, 6, 3), np.uint8)] * 2
    found = json.loads(Dialect().body("gpt", question(Request(shown, (), "which?", {"type": "array"}))))
    parts = found["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["image_url", "image_url", "text"]
    assert [part["image_url"]["detail"] for part in parts[:2]] == ["high", "high"]
    assert parts[2]["text"] == "which?"
    assert "response_format" not in found
