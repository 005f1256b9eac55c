"""Boxes against labelled boxes: DeepPCB's protocol, and COCO's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.boards.defect import TYPES, Defect
from worker.evaluation.counts import Interval, confusion, jeffreys, wilson
from worker.items import Json

SURE = 0.5
"""F and its kin count what is told with at least this confidence; AP counts all"""
OVERLAP = 0.33
COCO_OVERLAPS = tuple(round(0.5 + 0.05 * n, 2) for n in range(10))
_MOST = 100
"""of one type on one board, in COCO's protocol"""
_RECALLS = np.linspace(0, 1, 101)
_DRAWS, _SEED = 500, 20170

Floats = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Board:
    name: str
    labelled: Sequence[Defect]
    found: Sequence[Defect]


@dataclass(frozen=True, slots=True)
class Hits:
    """Everything that was found on all boards, the surest first."""

    confidence: Floats
    right: Floats
    board: Floats
    labelled: Floats
    """how many defects, of each board"""

    def ap(self, weight: Floats | None = None) -> float | None:
        """The mean precision where each labelled defect is found; nothing for those that are not."""
        times = np.ones(len(self.labelled)) if weight is None else weight
        whole = float((times * self.labelled).sum())
        if not whole:
            return None
        here = times[self.board]
        right = np.cumsum(here * self.right)
        precision = right / np.maximum(np.cumsum(here), 1e-9)
        return float((precision * here * self.right).sum() / whole)

    def rates(self, weight: Floats | None = None) -> tuple[float, float, float]:
        """Precision, recall and F of what is told as sure."""
        times = np.ones(len(self.labelled)) if weight is None else weight
        here = times[self.board] * (self.confidence >= SURE)
        told, right, whole = here.sum(), (here * self.right).sum(), (times * self.labelled).sum()
        return _share(right, told), _share(right, whole), _share(2 * right, told + whole)


class Rates(NamedTuple):
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Score:
    precision: float
    recall: float
    f1: float
    ap: float | None
    f1_interval: Interval | None
    ap_interval: Interval | None
    labelled: int

    def document(self) -> dict[str, Json]:
        return {
            "labelled": self.labelled,
            "precision": round(self.precision, 4),
            "recall": round(self.recall, 4),
            "f1": _figure(self.f1, self.f1_interval),
            "ap": _figure(self.ap, self.ap_interval),
        }


def deeppcb(boards: Sequence[Board], kind: str | None = None) -> Score:
    """Right is a box of the right type that shares more than a third with a labelled one that no surer box
    took. `kind`: of one type alone. Intervals: what other boards of the same sort would have given."""
    hits = _hits(boards, OVERLAP, kind)
    precision, recall, f1 = hits.rates()
    drawn = _draws(len(boards))
    return Score(
        precision,
        recall,
        f1,
        hits.ap(),
        _interval(hits.rates(weight)[2] for weight in drawn),
        _interval(value for weight in drawn if (value := hits.ap(weight)) is not None),
        int(hits.labelled.sum()),
    )


def rates(boards: Sequence[Board]) -> Rates:
    """By the same protocol, without intervals: it is asked for often."""
    return Rates(*_hits(boards, OVERLAP).rates())


def coco(boards: Sequence[Board]) -> dict[str, Json]:
    """mAP at 50, and the mean of those from 50 to 95: as pycocotools tells them."""
    by_type = {
        kind: [
            _interpolated(_hits(boards, overlap, kind, _MOST, inclusive=True)) for overlap in COCO_OVERLAPS
        ]
        for kind in TYPES
        if any(one.type == kind for board in boards for one in board.labelled)
    }
    if not by_type:
        return {"map50": None, "map50_95": None, "types": {}}
    return {
        "map50": round(float(np.mean([values[0] for values in by_type.values()])), 4),
        "map50_95": round(float(np.mean(list(by_type.values()))), 4),
        "types": {
            kind: {"ap50": round(values[0], 4), "ap50_95": round(float(np.mean(values)), 4)}
            for kind, values in by_type.items()
        },
    }


def document(boards: Sequence[Board]) -> dict[str, Json]:
    return {
        "boards": len(boards),
        "deeppcb": deeppcb(boards).document(),
        "coco": coco(boards),
        "types": {kind: deeppcb(boards, kind).document() for kind in TYPES},
    }


def told_apart(boards: Sequence[Board], negatives: Sequence[Board]) -> dict[str, Json] | None:
    """Pictures with defects and without, by whether any is told as sure. None: there are none without, and
    whoever always says yes would be right."""
    if not negatives:
        return None
    found = confusion((bool(one.labelled), _tells(one)) for one in (*boards, *negatives))
    told = found.true_yes + found.false_yes
    shares = {
        "precision": (found.precision, wilson(found.true_yes, told)),
        "recall": (found.recall, wilson(found.true_yes, found.true_yes + found.false_no)),
        "specificity": (found.specificity, wilson(found.true_no, found.true_no + found.false_yes)),
        "f1": (found.f1, jeffreys(found, lambda one: one.f1)),
    }
    return {
        "with_defects": int(found.true_yes + found.false_no),
        "without": int(found.true_no + found.false_yes),
        "false_alarms": int(found.false_yes),
        "missed": int(found.false_no),
        **{name: _figure(*share) for name, share in shares.items()},
    }


def _tells(board: Board) -> bool:
    return any(one.confidence >= SURE for one in board.found)


def _hits(
    boards: Sequence[Board],
    overlap: float,
    kind: str | None = None,
    most: int | None = None,
    *,
    inclusive: bool = False,
) -> Hits:
    rows: list[tuple[float, bool, int]] = []
    labelled: list[int] = []
    for number, board in enumerate(boards):
        true = [one for one in board.labelled if kind in (None, one.type)]
        found = sorted(
            (one for one in board.found if kind in (None, one.type)), key=lambda one: -one.confidence
        )[:most]
        labelled.append(len(true))
        rows += [
            (one.confidence, right, number)
            for one, right in zip(found, _right(found, true, overlap, inclusive), strict=True)
        ]
    rows.sort(key=lambda row: -row[0])
    return Hits(
        np.array([row[0] for row in rows], float),
        np.array([row[1] for row in rows], bool),
        np.array([row[2] for row in rows], int),
        np.array(labelled, int),
    )


def _right(found: Sequence[Defect], true: Sequence[Defect], overlap: float, inclusive: bool) -> list[bool]:
    """The surest takes the labelled box that it shares most with."""
    free = list(true)
    right = []
    for one in found:
        nearest = max(
            (each for each in free if each.type == one.type),
            key=lambda each: one.box.iou(each.box),
            default=None,
        )
        shared = one.box.iou(nearest.box) if nearest else 0.0
        taken = nearest is not None and (shared >= overlap if inclusive else shared > overlap)
        right.append(taken)
        if taken and nearest:
            free.remove(nearest)
    return right


def _interpolated(hits: Hits) -> float:
    if not len(hits.right):
        return 0.0
    right = np.cumsum(hits.right)
    recall = right / hits.labelled.sum()
    precision = np.maximum.accumulate((right / np.arange(1, len(right) + 1))[::-1])[::-1]
    at = np.searchsorted(recall, _RECALLS, side="left")
    return float(np.append(precision, 0.0)[np.minimum(at, len(precision))].mean())


def _draws(boards: int) -> list[Floats]:
    """How often each board comes, when as many are drawn from them again."""
    chance = np.random.default_rng(_SEED)
    return [np.bincount(chance.integers(boards, size=boards), minlength=boards) for _ in range(_DRAWS)]


def _interval(values: Iterable[float]) -> Interval | None:
    every = sorted(values)
    return (every[int(0.025 * len(every))], every[int(0.975 * len(every))]) if every else None


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def _figure(value: float | None, interval: Interval | None) -> dict[str, Json]:
    return {
        "value": None if value is None else round(value, 4),
        "interval": None if interval is None else [round(one, 4) for one in interval],
    }
