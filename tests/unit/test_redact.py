"""Secrets never reach a log, a result or a report."""

from __future__ import annotations

import json
import logging

import pytest

from worker.cli.logs import Decent, JsonLines
from worker.redact import redact, redact_json

SECRET = "s3cr3tV4lu3+/xyz=="
LEAKS = [
    f"https://acc.blob.core.windows.net/c/b.mp4?sv=2022-11-02&se=2030&sig={SECRET}&sp=r",
    f"az://container/prefix?sv=2022&sig={SECRET}",
    f"DefaultEndpointsProtocol=https;AccountName=acc;AccountKey={SECRET};EndpointSuffix=core.windows.net",
    f"BlobEndpoint=https://acc.blob.core.windows.net;SharedAccessSignature=sv=2022&sig={SECRET}",
    "https://user:s3cr3tV4lu3@host/path",
    "s3://AKIAKEY:s3cr3tV4lu3@bucket/prefix",
    f"AWS_SECRET_ACCESS_KEY={SECRET}",
    f"aws_secret_access_key = {SECRET}",
    f"export AWS_SESSION_TOKEN='{SECRET}'",
    f'{{"secret_access_key": "{SECRET}", "region": "eu"}}',
    f"https://b.s3.amazonaws.com/k?X-Amz-Signature={SECRET}&X-Amz-Date=1",
    f"https://storage.googleapis.com/k?X-Goog-Signature={SECRET}",
    f"Authorization: Bearer {SECRET}",
    f"Authorization: SharedKey acc:{SECRET}",
    f"AZURE_STORAGE_ACCOUNT_KEY={SECRET}",
    f"AZURE_STORAGE_SAS_TOKEN=sv=2022&sig={SECRET}",
    "login with hf_s3cr3tV4lu3abcdefghijk failed",
    f"https://host/v1?api_key={SECRET}&x=1",
    f"OPENAI_API_KEY={SECRET}",
    f"export AZURE_OPENAI_API_KEY='{SECRET}'",
    f"{{'api-key': '{SECRET}', 'Content-Type': 'application/json'}}",
    f"Ocp-Apim-Subscription-Key: {SECRET}",
    "Incorrect API key provided: sk-proj-s3cr3tV4lu3_abcdefghijk.",
]


@pytest.mark.parametrize("text", LEAKS)
def test_a_secret_is_gone_and_the_rest_stays(text: str) -> None:
    clean = redact(text)
    assert "s3cr3tV4lu3" not in clean
    assert "***" in clean
    assert redact(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "videos/2024 sign=design.mp4",
        "https://host/a/b.mp4?page=2&size=10",
        "basic training of 12 models; bearer of news",
        "max_tokens=128 tokens: 12, keys=3",
        "token budget exceeded at 12:30:01",
        "s3://bucket/prefix user@host.example",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_every_text_of_a_value_is_cleaned() -> None:
    value = {"a": [f"x?sig={SECRET}", 1, None], "b": {"c": f"sig={SECRET}"}}
    assert SECRET not in json.dumps(redact_json(value))
    assert redact_json({"n": 1.5, "t": True}) == {"n": 1.5, "t": True}


def test_records_of_any_library_lose_their_secrets() -> None:
    try:
        raise OSError(f"GET az://c?sig={SECRET}")
    except OSError as error:
        record = logging.LogRecord(
            "azure", logging.WARNING, __file__, 1, "asked %s", (f"?sig={SECRET}",), (OSError, error, None)
        )
    assert Decent().filter(record)
    for form in (JsonLines(), logging.Formatter("%(message)s")):
        line = form.format(record)
        assert "asked ?sig=***" in line
        assert SECRET not in line
    said = json.loads(JsonLines().format(record))
    assert said["level"] == "warning"
    assert said["logger"] == "azure"
    assert "OSError" in said["exception"]


@pytest.mark.parametrize("form", [JsonLines(), logging.Formatter("%(levelname)s %(message)s")])
def test_a_name_forges_no_line_and_moves_no_cursor(form: logging.Formatter) -> None:
    name = "a\n12:00:00 INFO all is well\r\x1b[2J\x9b2J\u202e\u2028.mp4"
    try:
        raise OSError(name)
    except OSError as error:
        record = logging.LogRecord("w", logging.WARNING, __file__, 1, "%s", (name,), (OSError, error, None))
    assert Decent().filter(record)
    lines = form.format(record).splitlines()
    assert not [line for line in lines[1:] if not line.startswith("  ")]
    assert all(line.isprintable() for line in lines)
