"""The files of env/azureml/ with values of a launch in them, and what can be wrong with the names in them.

They are valid as they stand and are filled in line by line: so `render` needs no library of YAML, and keeps
their comments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from worker.errors import UsageError
from worker.items import Json
from worker.launch.flow import flow

BINDING = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


def fill(template: str, values: Mapping[str, Json]) -> str:
    """Each key stands once in the file, on a line of its own."""
    for key, value in values.items():
        line = re.compile(rf"^(\s*{re.escape(key)}:)( .*)?$", re.MULTILINE)
        found = len(line.findall(template))
        if found != 1:
            raise ValueError(f"{key} stands {found} times in the template")
        template = line.sub(partial(_with, flow(value)), template)
    return template


def check_bindings(command: str, inputs: Mapping[str, Json]) -> None:
    """Azure finds a misspelt name only once the machines are paid for."""
    known = {f"inputs.{name}" for name in inputs}
    for name in BINDING.findall(command):
        if name not in known:
            raise UsageError(
                f"${{{{{name}}}}} in the job's command names nothing: there are {', '.join(sorted(known))}"
            )


def _with(value: str, line: re.Match[str]) -> str:
    return f"{line[1]} {value}"
