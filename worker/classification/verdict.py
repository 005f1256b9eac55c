"""What a model said of the tests' pictures: what it takes for what, and where it is surest and wrong."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

PREDICTIONS, CLASSES = "predictions.csv", "classes.csv"
OVERALL = "overall"
WORST_MOST = 24
_UNSAFE = re.compile(r"[^\w.-]")
"""in a file's name"""
Counts: TypeAlias = NDArray[np.int64]
"""a row for each true class, a column for each that was said"""


@dataclass(frozen=True, slots=True)
class Said:
    dataset: str
    picture: str
    label: str
    said: str
    share: float
    """how sure it was"""


@dataclass(frozen=True, slots=True)
class OfClass:
    """None: of so few that there is nothing to divide by."""

    dataset: str
    label: str
    pictures: int
    said: int
    precision: float | None
    recall: float | None
    f1: float | None


def written(said: Iterable[Said]) -> str:
    return table([one.name for one in fields(Said)], map(astuple, said))


def read(text: str) -> list[Said]:
    _, *rows = csv.reader(io.StringIO(text))
    return [
        Said(dataset, picture, label, said, float(share)) for dataset, picture, label, said, share in rows
    ]


def confusion(said: Iterable[Said], classes: Sequence[str]) -> Counts:
    numbers = {name: number for number, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), np.int64)
    for one in said:
        counts[numbers[one.label], numbers[one.said]] += 1
    return counts


def of_classes(dataset: str, counts: Counts, classes: Sequence[str]) -> list[OfClass]:
    right, true, said = np.diag(counts), counts.sum(1), counts.sum(0)
    return [
        OfClass(
            dataset,
            name,
            int(true[at]),
            int(said[at]),
            _share(right[at], said[at]),
            _share(right[at], true[at]),
            _share(2 * right[at], true[at] + said[at]),
        )
        for at, name in enumerate(classes)
    ]


def mixed_up(counts: Counts, classes: Sequence[str], most: int) -> list[tuple[str, str, int, float]]:
    """True class, what it was taken for, how often, in what share of its pictures; the most often first."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(at), len(classes)) for at in order]
    return [
        (classes[true], classes[said], int(wrong[true, said]), float(wrong[true, said] / counts[true].sum()))
        for true, said in pairs
        if wrong[true, said]
    ]


def worst(said: Iterable[Said], most: int = WORST_MOST) -> list[Said]:
    """Wrong, and the surest first."""
    wrong = [one for one in said if one.said != one.label]
    return sorted(wrong, key=lambda one: (-one.share, one.dataset, one.picture))[:most]


def files(said: Sequence[Said], classes: Sequence[str]) -> dict[str, str]:
    """Name → text, of all data sets together and of each, where there are several."""
    datasets = list(dict.fromkeys(one.dataset for one in said))
    parts = {OVERALL: list(said)}
    if len(datasets) > 1:
        parts |= {name: [one for one in said if one.dataset == name] for name in datasets}
    found, rows = {}, []
    for name, some in parts.items():
        counts = confusion(some, classes)
        file = "confusion.csv" if name == OVERALL else f"confusion-{_UNSAFE.sub('_', name)}.csv"
        found[file] = table(
            ["true / said", *classes],
            ([one, *row] for one, row in zip(classes, counts.tolist(), strict=True)),
        )
        rows += of_classes(name, counts, classes)
    told = ([_short(value) for value in astuple(row)] for row in rows)
    return {**found, CLASSES: table([one.name for one in fields(OfClass)], told)}


def table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue()


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def _short(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value
