"""What a task has to say of one long job, for its report: curves, tables, pictures. The report draws them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from worker.items import Json

Words: TypeAlias = tuple[str, str]
"""in English and in Chinese"""


@dataclass(frozen=True, slots=True)
class Curves:
    title: Words
    lines: Mapping[str, Sequence[tuple[float, float]]]
    """name → step, value"""


@dataclass(frozen=True, slots=True)
class Matrix:
    """How often what is one thing was taken for another."""

    names: Sequence[str]
    counts: Mapping[tuple[int, int], int]
    """row, column → how often; what never was is not there"""


@dataclass(frozen=True, slots=True)
class Sheet:
    columns: Sequence[Words]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Shown:
    pictures: Mapping[str, str]
    """of the answer's files → what stands below"""


@dataclass(frozen=True, slots=True)
class Chapter:
    title: Words
    parts: Sequence[Curves | Matrix | Sheet | Shown]


def curves(wanted: Mapping[Words, Mapping[str, str]], rows: Sequence[Mapping[str, Json]]) -> Iterator[Curves]:
    """`wanted`: for each title the names of its lines, and under which keys the rows, each of a step, have
    them. What has no line is no curve, and what is always nought none worth a look."""
    for title, names in wanted.items():
        lines = {
            name: [(row["step"], row[key]) for row in rows if _drawable(row.get(key))]
            for name, key in names.items()
        }
        if any(value for line in lines.values() for _, value in line):
            yield Curves(title, {name: line for name, line in lines.items() if line})


def _drawable(value: Json) -> bool:
    """Neither unknown nor, of a training that diverged, no number."""
    return isinstance(value, int | float) and math.isfinite(value)
