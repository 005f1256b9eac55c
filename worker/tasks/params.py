"""A task's parameters as people write them: `--set key=value`, or a mapping out of a file."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from pydantic import ValidationError

from worker.errors import UsageError
from worker.items import Json
from worker.tasks.task import Params


class Named(Protocol):
    """A kind of work: the class itself."""

    name: str
    params_type: type[Params]


def parse_settings(task_type: Named, settings: Iterable[str]) -> Params:
    """`key=value` each: the value is JSON, or plain text where JSON does not fit the parameter."""
    texts = dict(_split(setting) for setting in settings)
    values = {key: _json_or_text(text) for key, text in texts.items()}
    try:
        return task_type.params_type.model_validate(values)
    except ValidationError as error:
        unfit = {problem["loc"][0] for problem in error.errors() if problem["loc"]}
        return validate(task_type, {key: texts[key] if key in unfit else values[key] for key in values})


def validate(task_type: Named, mapping: Mapping[str, Json]) -> Params:
    try:
        return task_type.params_type.model_validate(dict(mapping))
    except ValidationError as error:
        complaints = [_complaint(task_type, problem) for problem in error.errors(include_url=False)]
        raise UsageError(f"task {task_type.name} {' and '.join(complaints)}") from None


def _split(setting: str) -> tuple[str, str]:
    key, equals, value = setting.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"'{setting}' is not a setting; write key=value")
    return key.strip(), value


def _json_or_text(text: str) -> Json:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _complaint(task_type: Named, problem: Mapping[str, Any]) -> str:
    """One of pydantic's findings, as the end of a sentence that begins with the task."""
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
        return f"has no parameter '{name}'{_nearest(name, list(task_type.params_type.model_fields))}"
    if problem["type"] == "missing":
        return f"needs the parameter '{name}'"
    what = problem["msg"][0].lower() + problem["msg"][1:]
    given = " ".join(str(problem["input"]).split())
    subject = f"cannot take {name}={given[:60]}" if name else "cannot take these parameters"
    return f"{subject}: {what}"


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; it has {', '.join(known)}" if known else "; it has none"
