"""A measurement becomes a row as soon as it is made; a table names the command that prints it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    what: str
    figure: str
    aim: str = ""


def show(name: str, figures: Iterable[Figure]) -> None:
    print("| what | figure | aim | printed by |\n| --- | --- | --- | --- |")  # noqa: T201
    for one in figures:
        print(f"| {one.what} | {one.figure} | {one.aim} | `make bench OF={name}` |", flush=True)  # noqa: T201


def not_here(why: object) -> str:
    """A row is never left out: it says why it is empty."""
    return f"not here: {' '.join(str(why).split()).replace('|', '/')[:160]}"
