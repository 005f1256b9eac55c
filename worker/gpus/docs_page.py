"""The interface as a page that a browser shows without a script, made from its OpenAPI description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from worker.gpus.page import PART, Page, sealed

METHODS = ("get", "post", "put", "patch", "delete")

Json = Mapping[str, Any]


def rendered(api: Json) -> Page:
    style = (PART / "docs.css").read_text("utf-8")
    title = escape(api["info"]["title"])
    return sealed(
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<style>{style}</style></head><body><main><h1>{title} {escape(api['info']['version'])}</h1>"
        '<p><a href="/">GPUs</a> · <a href="/openapi.json">openapi.json</a></p>'
        '<p class="soft">What is refused is answered with <a href="#ErrorTold">ErrorTold</a>.</p>'
        f"{''.join(_operations(api))}<h2>Forms</h2>{''.join(_forms(api))}</main></body></html>",
        style,
    )


def _operations(api: Json) -> Iterator[str]:
    for path, methods in api["paths"].items():
        for method, one in methods.items():
            if method not in METHODS:
                continue
            yield f'<section><h3><b class="{method}">{method.upper()}</b> <code>{escape(path)}</code></h3>'
            yield f"<p>{escape(one.get('description') or one.get('summary', ''))}</p>"
            rows = [
                (field["name"], field["in"], _kind(field["schema"]), _about(field, field["schema"]))
                for field in one.get("parameters", ())
            ]
            if asked := _content(one.get("requestBody")):
                rows.append(("", "body", _kind(asked), ""))
            yield _table(rows)
            if told := _content(one["responses"].get("200")):
                yield f'<p class="soft">answers {_kind(told)}</p>'
            yield "</section>"


def _forms(api: Json) -> Iterator[str]:
    for name, form in api.get("components", {}).get("schemas", {}).items():
        yield f'<section id="{escape(name)}"><h3>{escape(name)}</h3>'
        yield f"<p>{escape(form.get('description', ''))}</p>"
        needed = form.get("required", ())
        yield _table(
            (key, "needed" if key in needed else "", _kind(field), _about(field))
            for key, field in form.get("properties", {}).items()
        )
        yield "</section>"


def _content(body: Json | None) -> Json:
    told: Json = (body or {}).get("content", {}).get("application/json", {}).get("schema", {})
    return told


def _kind(schema: Json) -> str:
    """HTML."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if either := schema.get("anyOf"):
        return " or ".join(_kind(one) for one in either)
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(one))}</code>" for one in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"by name: {_kind(schema['additionalProperties'])}"
    return escape(str(schema.get("const", schema.get("format", schema.get("type", "")))))


def _about(*told: Json) -> str:
    """HTML: what it says of itself, and its limits."""
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "maxLength": "characters ≤"}
    words = [escape(one["description"]) for one in told if one.get("description")][:1]
    for one in told:
        words += [
            f"{sign} {one[key]:g}" for key, sign in limits.items() if isinstance(one.get(key), int | float)
        ]
        if one.get("default") not in (None, "", [], {}):
            words.append(f"default {escape(str(one['default']))}")
    return "; ".join(words)


def _table(rows: Any) -> str:
    body = "".join(
        f"<tr><td><code>{escape(name)}</code><td>{where}<td>{kind}<td>{about}</tr>"
        for name, where, kind, about in rows
    )
    return f"<table>{body}</table>" if body else ""
