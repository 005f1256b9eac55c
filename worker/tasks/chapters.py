"""What a task has to say of one long job, for its report: curves, tables, pictures. The report draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

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
