"""`worker tasks`"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}


@click.command()
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """What can be done; with NAME, the parameters of one task."""
    from worker.cli.table import table
    from worker.tasks import registry

    if name is None:
        lines = table([[*entry] for entry in registry.names().items()], most=110)
    else:
        task = registry.find(name)
        lines = [f"{task.name}: {task.about}", *engines(task.engines)]
        lines += describe(task.params_type.model_json_schema())
    click.echo("\n".join(lines))


def engines(known: Mapping[str, str]) -> list[str]:
    """Those that can answer it, and what each of them needs."""
    from worker.cli.table import table
    from worker.engines.choice import engine_type

    types = {name: engine_type(where) for name, where in known.items()}
    rows = [[f"  --engine {name}", needs(one.model), one.about] for name, one in types.items()]
    return ["", *table(rows, most=110)] if rows else []


def needs(model: str) -> str:
    return "" if model == "none" else f"--model {model.upper()}"


def describe(schema: Mapping[str, Any]) -> list[str]:
    """A task's parameters, from the JSON schema of their type."""
    from worker.cli.table import table
    from worker.queue.text import dumps

    required = schema.get("required", ())
    rows = [
        [
            f"  {name}",
            " or ".join(_types(field, schema)),
            "required" if name in required else f"default {dumps(field.get('default'))}",
            ", ".join(text.format(field[bound]) for bound, text in BOUNDS.items() if bound in field),
            field.get("description", ""),
        ]
        for name, field in schema.get("properties", {}).items()
    ]
    if not rows:
        return ["  no parameters"]
    return ["", *table(rows, most=100), "", "Give them with --set name=value."]


def _types(field: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    for one in field.get("anyOf", [field]):
        if "$ref" in one:
            one = schema["$defs"][one["$ref"].rpartition("/")[2]]
        if "enum" in one:
            yield "|".join(map(str, one["enum"]))
        elif "const" in one:
            yield str(one["const"])
        else:
            yield str(one.get("type", "any"))
