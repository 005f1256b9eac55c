"""Options that several commands share, and the forms that people write numbers in."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Duration(click.ParamType[float]):
    """90, 90s, 15m, 12h, 1.5d"""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([smhd]?)", str(value).strip().lower())
        if not found or float(found[1]) <= 0:
            self.fail(f"{value!r} is not a time; write 90s, 15m or 12h", param, ctx)
        return float(found[1]) * UNITS[found[2]]


class NumberOr(click.ParamType[int | None]):
    """A number from 1; None: the word that stands for all that is left to us."""

    def __init__(self, word: str, what: str) -> None:
        self.name = f"n|{word}"
        self._word, self._what = word, what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value == self._word or value is None:
            return None
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"{value!r} is no {self._what}; write one from 1, or {self._word}", param, ctx)
        return number


BATCH = NumberOr("auto", "number of samples")


def recipe_options(required: bool) -> Callable[[F], F]:
    """What is done to every item: frozen in the queue by the first who says it."""

    def add(command: F) -> F:
        for option in reversed(
            (
                click.option(
                    "--task", required=required, help="what to do with each item: see `worker tasks`"
                ),
                click.option("--engine", help="which kind of model answers"),
                click.option("--model", help="folder or name of the model"),
                click.option("--revision", help="the model's pinned revision"),
                click.option("--screen", help="engine that looks first: only what it finds reaches --engine"),
                click.option("--screen-model", metavar="FILE", help="the model of --screen"),
                click.option(
                    "--lang", type=click.Choice(["zh", "en"]), help="language of the answers' texts"
                ),
                click.option(
                    "--set",
                    "settings",
                    multiple=True,
                    envvar="WORKER_SET",
                    metavar="KEY=VALUE",
                    help="a task's parameter",
                ),
            )
        ):
            command = option(command)
        return command

    return add


def settings_of(settings: Sequence[str], lang: str | None) -> list[str]:
    return [*settings, f"lang={lang}"] if lang else list(settings)
