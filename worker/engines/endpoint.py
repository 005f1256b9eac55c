"""Where somebody else's model answers, and with which key: as the environment says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from worker.engines.completion import Refusal
from worker.errors import UsageError
from worker.redact import HIDDEN, redact

OPENAI = "https://api.openai.com/v1"
AZURE_VERSION = "2024-10-21"
"""the first that knows JSON schemas and is no preview"""

LEAST_SECRET, LEAST_KEY = 6, 16
"""letters of what is hidden in messages, and in answers: servers that want any key are given "x" or "EMPTY",
and an answer may hold such words"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    url: str = field(repr=False)
    """that is asked; it may hold a password"""
    headers: Mapping[str, str] = field(repr=False)
    model: str
    variables: str
    """where a person sets what may be wrong"""
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def shown(self) -> str:
        """Its address, for people."""
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"

    def hide(self, text: str) -> str:
        """An answer, without the key that it may repeat."""
        for secret in self.secrets:
            if len(secret) >= LEAST_KEY:
                text = text.replace(secret, HIDDEN)
        return text

    def clean(self, text: str) -> str:
        """For a log: in one line."""
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        return redact(" ".join(text.split()))

    def says(self, what: str) -> str:
        return f"{self.shown}: {self.clean(what)}"

    def denies(self, said: Refusal) -> str:
        """In one line, with what to do about it."""
        if said.wants_money:
            why, remedy = "wants to be paid", "see to its quota and billing"
        elif said.status in (401, 403, 407):
            why, remedy = "does not let us in", f"check {self.variables}"
        elif said.status == 200:
            why, remedy = "is no OpenAI endpoint: it answers with a page", f"check {self.variables}"
        else:
            why = f"is not there, or knows no model {self.model}"
            remedy = f"check --model and {self.variables}"
        return f"{self.shown} {why} ({self.clean(said.short)}); {remedy}"


def endpoint(environment: Mapping[str, str], model: str) -> Endpoint:
    azure, base = _value(environment, "AZURE_OPENAI_ENDPOINT"), _value(environment, "OPENAI_BASE_URL")
    if azure and base:
        raise UsageError("AZURE_OPENAI_ENDPOINT and OPENAI_BASE_URL name two endpoints; unset one of them")
    return _azure(environment, azure, model) if azure else _plain(environment, base, model)


def _azure(environment: Mapping[str, str], address: str, model: str) -> Endpoint:
    if not (key := _key(environment, "AZURE_OPENAI_API_KEY")):
        raise UsageError("AZURE_OPENAI_ENDPOINT is set, and AZURE_OPENAI_API_KEY is not")
    version = _value(environment, "AZURE_OPENAI_API_VERSION") or AZURE_VERSION
    root = _address(address, "AZURE_OPENAI_ENDPOINT")
    path = f"/openai/deployments/{quote(model, safe='')}/chat/completions"
    return Endpoint(
        f"{root}{path}?api-version={quote(version, safe='')}",
        {"api-key": key},
        model,
        "AZURE_OPENAI_ENDPOINT, AZURE_OPENAI_API_KEY",
        _secrets(root, key),
    )


def _plain(environment: Mapping[str, str], base: str, model: str) -> Endpoint:
    key = _key(environment, "OPENAI_API_KEY")
    if not (base or key):
        raise UsageError(
            "engine openai needs OPENAI_API_KEY; for a server of your own OPENAI_BASE_URL "
            "(http://host:8000/v1), for Azure AZURE_OPENAI_ENDPOINT and AZURE_OPENAI_API_KEY"
        )
    root = _address(base or OPENAI, "OPENAI_BASE_URL").removesuffix("/chat/completions")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return Endpoint(
        f"{root}/chat/completions", headers, model, "OPENAI_BASE_URL, OPENAI_API_KEY", _secrets(root, key)
    )


def _value(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name, "").strip()


def _key(environment: Mapping[str, str], name: str) -> str:
    key = _value(environment, name)
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"{name} holds a character that no key has")  # a library would print all of it
    return key


def _address(text: str, name: str) -> str:
    try:
        parts = urlsplit(text)
        if parts.scheme in ("http", "https") and parts.hostname and not parts.query and parts.port != 0:
            return text.rstrip("/")
    except ValueError:
        pass  # no port is like that
    raise UsageError(f"{name} is '{redact(text)}'; it must be like https://host/v1")


def _secrets(root: str, key: str) -> tuple[str, ...]:
    return tuple(one for one in (key, urlsplit(root).password or "") if len(one) >= LEAST_SECRET)
